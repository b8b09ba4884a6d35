"""A gateway's side of Kilotoken: may this key make this call, and what became of it. Standard library only.

    gateway = Gateway(Settings.from_environment(source="my-gateway"))
    admitted = gateway.admit(digest_of(key), call_id=…, model=…, prompt_tokens=…, max_tokens=…)   # or raises Refused
    gateway.report(gateway.event(admitted, {…}, ended_at=…))    # on this machine's disk when it returns, sent by and by
    gateway.release(admitted)      # the call used nothing

While Kilotoken cannot be reached, calls go on or not as their organisation last wished, up to its bound; their usage
waits in the spool. Everything here blocks for as long as an answer takes, and may be used from many threads.
"""

import json
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from hashlib import sha256
from pathlib import Path
from typing import Any
from urllib.parse import quote

from kilotoken_http import Answer, Api, Unreachable
from kilotoken_known import Identity, Known, Policy
from kilotoken_running import Running
from kilotoken_spool import NotTaken, Record, Spool

# Refusals of the key itself: an outage must not let it in again.
OF_THE_KEY = {"key_unknown", "key_revoked", "key_expired", "organisation_suspended", "project_archived"}


@dataclass(frozen=True)
class Settings:
    url: str
    token: str
    spool: Path
    spool_max_bytes: int = 1 << 30
    timeout: float = 2.0
    # How long a hold lasts if nobody ends it.
    ttl_seconds: int = 600
    # The source of its events: with their ids, what they are known by.
    source: str = "gateway"

    @classmethod
    def from_environment(cls, *, source: str) -> "Settings":
        """KILOTOKEN_URL, _TOKEN, _SPOOL, and for those who need them _SPOOL_MAX_BYTES, _TIMEOUT and _TTL_SECONDS."""
        missing = [name for name in ("KILOTOKEN_URL", "KILOTOKEN_TOKEN", "KILOTOKEN_SPOOL") if not os.environ.get(name)]
        if missing:
            raise RuntimeError(f"Set {' and '.join(missing)}: see the README of Kilotoken's gateway plugin.")
        return cls(
            url=os.environ["KILOTOKEN_URL"].rstrip("/"),
            token=os.environ["KILOTOKEN_TOKEN"],
            spool=Path(os.environ["KILOTOKEN_SPOOL"]),
            spool_max_bytes=int(os.environ.get("KILOTOKEN_SPOOL_MAX_BYTES", cls.spool_max_bytes)),
            timeout=float(os.environ.get("KILOTOKEN_TIMEOUT", cls.timeout)),
            ttl_seconds=int(os.environ.get("KILOTOKEN_TTL_SECONDS", cls.ttl_seconds)),
            source=source,
        )


class Refused(Exception):
    """Not allowed. Status, headers and message are fit for the caller; `reason` is what Kilotoken said."""

    def __init__(self, reason: Mapping[str, Any]) -> None:
        super().__init__(reason["message"])
        self.code, self.status, self.message = str(reason["code"]), int(reason["status"]), str(reason["message"])
        self.headers = {str(name): str(value) for name, value in (reason.get("headers") or {}).items()}
        self.reason = dict(reason)


@dataclass(frozen=True)
class Admitted:
    call_id: str
    digest: str
    model: str
    identity: Identity
    # None: let through without asking, while Kilotoken was unreachable.
    admission: str | None
    # Units by meter that are held.
    estimate: Mapping[str, int] = field(default_factory=dict)
    # Rate limits as OpenAI's clients read them.
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def reference(self) -> dict[str, str]:
        """The members of an event's `data` by which it settles the hold."""
        return {"call_id": self.call_id} | ({"admission": self.admission} if self.admission else {})


def digest_of(key: str) -> str:
    """The SHA-256 by which Kilotoken knows an API key."""
    return sha256(key.encode()).hexdigest()


class Gateway:
    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.api = Api(settings.url, settings.token, settings.timeout)
        self.known = Known(settings.spool / "known.sqlite")
        self.spool = Spool(settings.spool, self._deliver, max_bytes=settings.spool_max_bytes)
        self._running = Running(settings.spool)
        for event in self._running.left_behind():
            self.spool.append({"event": event})

    # --- Before a call ------------------------------------------------------------------------------------------------

    def identify(self, digest: str, *, client_ip: str | None = None) -> Identity:
        """Whose key it is, if it may be used at all; holds nothing. In an outage, as last known."""
        headers = {"X-Kilotoken-Key-Sha256": digest, "X-Kilotoken-Hold": "none"}
        if client_ip:
            headers["X-Kilotoken-Client-Ip"] = client_ip
        try:
            answer = self.api.ask("GET", "/v1/authorize", headers=headers)
        except Unreachable:
            identity = self.known.identity(digest)
            if identity is None:
                raise _unavailable("It is not known whose API key this is, and that cannot be asked now.") from None
            return identity
        return self._learn(digest, self._decision(answer))

    def admit(
        self,
        digest: str,
        *,
        call_id: str,
        model: str,
        prompt_tokens: int | None = None,
        max_tokens: int | None = None,
        end_user: str | None = None,
        client_ip: str | None = None,
    ) -> Admitted:
        """Hold what the call may need; Refused if there is no room for it. `call_id` must be new for each call.

        End it by `report` with an event of that id, or by `release`. If this process is killed before, the next one
        reports the prompt, marked as estimated.
        """
        if self.spool.is_full:
            raise _unavailable("The gateway has no room left to write down usage.")
        wanted: dict[str, Any] = {"prompt_tokens": prompt_tokens, "max_tokens": max_tokens, "end_user": end_user}
        wanted |= {"client_ip": client_ip, "ttl_seconds": self.settings.ttl_seconds}
        body: dict[str, Any] = {"call_id": call_id, "api_key_sha256": digest, "model": model}
        body |= {name: value for name, value in wanted.items() if value is not None}
        try:
            answer = self.api.ask("POST", "/v1/admissions", body)
        except Unreachable:
            admitted = self._admit_unasked(digest, call_id, model, (prompt_tokens or 0) + (max_tokens or 0))
            return self._begun(admitted, prompt_tokens)
        decision = self._decision(answer)
        identity = self._learn(digest, decision)
        estimate = {meter: int(Decimal(str(units))) for meter, units in (decision.get("estimate") or {}).items()}
        self._learn_price(identity.organisation, model, decision.get("quoted"), sum(estimate.values()))
        headers = {name: value for name, value in answer.headers.items() if name.startswith("x-ratelimit-")}
        admitted = Admitted(call_id, digest, model, identity, str(decision["id"]), estimate, headers)
        return self._begun(admitted, prompt_tokens)

    def extend(self, admitted: Admitted, more: Mapping[str, int]) -> bool:
        """Hold more for a call that runs on; False if there is no room. True too while nobody can be asked."""
        if admitted.admission is None:
            return True
        body = {"estimate": dict(more), "ttl_seconds": self.settings.ttl_seconds}
        try:
            answer = self.api.ask("POST", f"/v1/admissions/{quote(admitted.admission)}/extension", body)
        except Unreachable:
            return True
        return answer.status != 402

    # --- After it -----------------------------------------------------------------------------------------------------

    def report(self, event: Record) -> None:
        """Send a usage event; it is on the disk when this returns."""
        self.spool.append({"event": event})
        self._running.end(event["id"])

    def event(self, admitted: Admitted, data: Mapping[str, Any], *, ended_at: float) -> Record:
        """The CloudEvent that reports a call and settles its hold."""
        return {
            "specversion": "1.0",
            "source": self.settings.source,
            "id": admitted.call_id,
            "type": "ai.usage",
            "subject": admitted.digest,
            "time": datetime.fromtimestamp(ended_at, UTC).isoformat(),
            "data": {name: value for name, value in data.items() if value is not None} | admitted.reference,
        }

    def release(self, admitted: Admitted) -> None:
        """The call used nothing: what it holds is free again."""
        name = quote(admitted.admission or f"call:{admitted.call_id}")
        self.spool.append({"release": f"{name}/release?organisation={quote(admitted.identity.organisation)}"})
        self._running.end(admitted.call_id)

    def close(self) -> None:
        self.spool.close()
        self.known.close()
        self._running.close()

    # --- Inside -------------------------------------------------------------------------------------------------------

    def _begun(self, admitted: Admitted, prompt_tokens: int | None) -> Admitted:
        prompt = {"input_tokens": prompt_tokens} if prompt_tokens else {}
        if_killed = {"model": admitted.model, "metering": "estimated"} | prompt
        self._running.begin(self.event(admitted, if_killed, ended_at=time.time()))
        return admitted

    def _admit_unasked(self, digest: str, call_id: str, model: str, tokens: int) -> Admitted:
        identity = self.known.identity(digest)
        if identity is None or not self.known.take_call(identity.organisation, model, tokens):
            raise _unavailable("Whether this call may be made cannot be asked now.")
        return Admitted(call_id, digest, model, identity, None)

    def _decision(self, answer: Answer) -> Mapping[str, Any]:
        """What was decided; anything that is no decision is a fault between the gateway and Kilotoken: closed."""
        if answer.body.get("decision") not in ("allow", "deny"):
            detail = answer.body.get("detail") or f"status {answer.status}"
            raise _misconfigured(f"Kilotoken does not decide for this gateway: {detail}")
        return answer.body

    def _learn(self, digest: str, decision: Mapping[str, Any]) -> Identity:
        organisation = str(decision.get("organisation") or "")
        if organisation and (wish := decision.get("when_unreachable")):
            most, number = wish.get("max_amount"), wish.get("max_requests")
            policy = Policy(wish["mode"], None if number is None else int(number), _decimal(most))
            self.known.learn_policy(organisation, policy)
        if decision["decision"] == "deny":
            reason = decision["reason"]
            if reason["code"] in OF_THE_KEY:
                self.known.forget_key(digest)
            raise Refused(reason)
        identity = Identity(organisation, str(decision.get("project") or ""), str(decision.get("api_key") or ""))
        self.known.learn_key(digest, identity)
        return identity

    def _learn_price(self, organisation: str, model: str, quoted: Mapping[str, Any] | None, tokens: int) -> None:
        if quoted and (amount := _decimal(quoted.get("amount"))) is not None:
            self.known.learn_price(organisation, model, quoted=amount, tokens=tokens)

    def _deliver(self, records: list[Record]) -> None:
        """The spool's sender: events in one request, releases one by one. Returns once Kilotoken has committed them."""
        events = [record["event"] for record in records if "event" in record]
        if events:
            self._deliver_events(events)
        for path in (record["release"] for record in records if "release" in record):
            # 4xx: that hold never was, or has ended; nothing to do again.
            self._taken(self.api.post_patiently(f"/v1/admissions/{path}", {}))

    def _deliver_events(self, events: list[Record]) -> None:
        answer = self.api.post_patiently("/v1/events", events, "application/cloudevents-batch+json")
        if answer.status in (400, 413, 422) and len(events) > 1:
            for event in events:
                self._deliver_events([event])
        elif answer.status in (400, 413, 422):
            aside = self.settings.spool / "refused.txt"
            with aside.open("a") as file:
                file.write(json.dumps({"at": time.time(), "answer": answer.body, "event": events[0]}) + "\n")
        elif answer.status >= 300:
            raise NotTaken(f"status {answer.status}: {answer.body.get('detail', '')}")

    def _taken(self, answer: Answer) -> None:
        if answer.status in (401, 403):
            raise NotTaken(f"status {answer.status}: {answer.body.get('detail', '')}")


def _decimal(value: Any) -> Decimal | None:
    try:
        return None if value is None else Decimal(str(value))
    except InvalidOperation:
        return None


def _unavailable(message: str) -> Refused:
    return Refused({"code": "metering_unavailable", "status": 503, "message": message, "headers": {"Retry-After": "5"}})


def _misconfigured(message: str) -> Refused:
    return Refused({"code": "metering_misconfigured", "status": 503, "message": message})
