"""One Stripe account: its objects, clock, idempotency keys, events, injected faults and journal.

Every object a request touches is noted, so that `commit` can save what changed before the request is answered. Callers
hold `lock` while they read or change anything. Which changes are allowed is the business of `rules`.
"""

import copy
import json
import re
import secrets
import threading
import time
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from billing.sandbox.answers import faults_in
from billing.sandbox.document import Document, Schema, Thing
from billing.sandbox.errors import StripeError
from billing.sandbox.state import StateFile
from billing.sandbox.webhooks import WAITS, Courier, Endpoint

DAY = 24 * 3600
LONGEST_JOURNAL = 20_000
# Events that were not delivered are delivered after a restart, as long as Stripe would still try.
REDELIVERY_DAYS = 3

PREFIXES = {
    "billing_portal.session": "bps",
    "charge": "ch",
    "checkout.session": "cs_test",
    "credit_note": "cn",
    "credit_note_line_item": "cnli",
    "customer": "cus",
    "event": "evt",
    "invoice": "in",
    "invoice_payment": "inpay",
    "invoiceitem": "ii",
    "line_item": "il",
    "payment_intent": "pi",
    "payment_method": "pm",
    "price": "price",
    "product": "prod",
    "refund": "re",
    "setup_intent": "seti",
    "tax_rate": "txr",
    "test_helpers.test_clock": "clock",
    "webhook_endpoint": "we",
}


@dataclass
class Call:
    """One request on its way through. `how` is "generic" when no rule of Stripe's stands behind the answer."""

    method: str
    path: str
    headers: dict[str, str]
    template: str = ""
    operation: Schema = field(default_factory=dict)
    arguments: dict[str, str] = field(default_factory=dict)
    params: Thing = field(default_factory=dict)
    how: str = "modelled"

    @property
    def version(self) -> str:
        return self.headers.get("stripe-version", "")

    @property
    def key(self) -> str | None:
        return self.headers.get("idempotency-key")

    def __str__(self) -> str:
        return f"{self.method} {self.path}"


@dataclass
class Fault:
    """Trouble to come: `kind` befalls `times` requests that match, after `skip` of them went well."""

    kind: str
    match: str = "."
    skip: int = 0
    times: int = 1
    seconds: float = 5


@dataclass(frozen=True)
class Options:
    """How a sandbox behaves where Stripe's accounts differ or its documentation leaves room."""

    seller: str = "Kilotoken"
    search_lag: int = 60  # seconds until search finds a new object
    unique_numbers: bool = False  # refuse an invoice number used before: not documented, so off
    waits: tuple[float, ...] = WAITS  # seconds before each further try of a webhook
    return_url: str = ""  # where the hosted invoice page leads back to; empty: nowhere


class Account:
    """See the module."""

    def __init__(self, document: Document, options: Options, *, base: str = "", state: Path | None = None) -> None:
        self.document, self.options, self.base = document, options, base
        self.lock = threading.RLock()
        self.courier = Courier(self._note_delivery, options.waits)
        self.endpoints: list[Endpoint] = []
        self._state = StateFile(state) if state else None
        self._clear()
        if self._state:
            self._load(self._state)

    def _clear(self) -> None:
        self.objects: dict[str, Thing] = {}
        self._kinds: dict[str, dict[str, Thing]] = {}
        self._private: dict[str, Thing] = {}
        self._touched: dict[str, None] = {}
        self.keys: dict[str, Thing] = {}
        self.shift = 0  # seconds that the clock was moved
        self.journal: deque[Thing] = deque(maxlen=LONGEST_JOURNAL)
        self.faults: list[Fault] = []
        self.held: list[tuple[Endpoint, Thing]] = []

    def reset(self) -> None:
        """Forget everything, as if the account were new."""
        with self.lock:
            self.courier.forget()
            self.endpoints.clear()
            self._clear()
            if self._state:
                self._state.rewrite({"objects": {}, "private": {}, "keys": {}})

    # -- Saving and loading

    def commit(self, *keys: str) -> None:
        """Save what was touched since the last commit, and the named idempotency keys."""
        touched, self._touched = self._touched, {}
        if self._state is None:
            return
        self._state.append(
            {
                "base": self.base,
                "shift": self.shift,
                "objects": {id: self.objects.get(id) for id in touched},
                "private": {
                    id: self._private.get(id) for id in touched if id in self._private or id not in self.objects
                },
                "keys": {key: self.keys.get(key) for key in keys},
            }
        )

    def _load(self, state: StateFile) -> None:
        saved = state.read()
        former = saved.get("base")
        if former and former != self.base:  # the addresses of pages follow the sandbox to another port
            saved = json.loads(json.dumps(saved).replace(f"{former}/", f"{self.base}/"))
        state.rewrite({**saved, "base": self.base})
        self.shift = saved.get("shift", 0)
        self._private = saved["private"]
        self.keys = {key: kept for key, kept in saved["keys"].items() if self.now() - kept["at"] < DAY}
        for thing in saved["objects"].values():
            self._shelve(thing)
        for made in self.all("webhook_endpoint"):
            self.listen(self.endpoint_of(made), catch_up=True)
        self._touched.clear()

    # -- The clock

    def now(self) -> int:
        return int(time.time()) + self.shift

    # -- Objects

    def make(self, kind: str, **values: Any) -> Thing:
        """A new stored object of a kind, blank but for the given values."""
        thing = self.document.blank_of(kind)
        prefix = PREFIXES.get(kind, kind.replace(".", "_"))
        thing.update(id=f"{prefix}_sbx{secrets.token_hex(9)}", object=kind)
        properties = self.document.schemas[kind]["properties"]
        for common, value in (("created", self.now()), ("livemode", False), ("metadata", {})):
            if common in properties:
                thing[common] = value
        thing.update(values)
        self._shelve(thing)
        self.private_of(thing)["made_at"] = self.now()
        return thing

    def _shelve(self, thing: Thing) -> None:
        self.objects[thing["id"]] = thing
        self._kinds.setdefault(thing["object"], {})[thing["id"]] = thing
        self._touched[thing["id"]] = None

    def remove(self, thing: Thing) -> None:
        """Undo `make`: nothing remembers the object."""
        del self.objects[thing["id"]]
        del self._kinds[thing["object"]][thing["id"]]
        self._private.pop(thing["id"], None)
        self._touched[thing["id"]] = None

    def replace(self, thing: Thing) -> None:
        """Store an object that was made elsewhere, in the place of one with the same id."""
        self._shelve(thing)

    def get(self, id: str) -> Thing:
        """An object that must exist, whatever its kind."""
        self._touched[id] = None
        return self.objects[id]

    def find(self, id: str, kind: str, param: str = "id") -> Thing:
        """An object that a request names; `param` "path" also finds deleted ones and answers 404 instead of 400."""
        thing = self.objects.get(id)
        if thing is None or thing["object"] != kind or (thing.get("deleted") and param != "path"):
            status, blamed = (404, "id") if param == "path" else (400, param)
            raise StripeError(status, f"No such {kind}: '{id}'", "resource_missing", blamed)
        self._touched[id] = None
        return thing

    def all(self, kind: str, **equal: Any) -> list[Thing]:
        """Objects of a kind with these properties, oldest first."""
        found = [
            thing
            for thing in self._kinds.get(kind, {}).values()
            if not thing.get("deleted") and all(thing.get(name) == value for name, value in equal.items())
        ]
        self._touched.update(dict.fromkeys(thing["id"] for thing in found))
        return found

    def kinds(self) -> list[str]:
        return sorted(self._kinds)

    def private_of(self, thing: Thing) -> Thing:
        """What the account knows about an object and Stripe's answers do not show."""
        self._touched[thing["id"]] = None
        return self._private.setdefault(thing["id"], {})

    def update(self, thing: Thing, params: Thing) -> None:
        """Carry over each parameter whose name and type fit a property of the object."""
        properties = self.document.schemas[thing["object"]]["properties"]
        for name, value in params.items():
            if name == "metadata":
                merged = {} if value == "" else {**(thing.get("metadata") or {}), **value}
                thing["metadata"] = {key: text for key, text in merged.items() if text != ""}
            elif name in properties:
                fitting = None if value == "" else value
                if not any(faults_in(self.document, properties[name], fitting)):
                    thing[name] = fitting

    @staticmethod
    def page(items: list[Thing], url: str, limit: int | None = None) -> Thing:
        """A list as Stripe answers it."""
        cut = items if limit is None else items[:limit]
        return {"object": "list", "data": cut, "has_more": len(cut) < len(items), "url": url}

    # -- Events and webhooks

    def event(self, type: str, thing: Thing, call: Call | None = None) -> None:
        """Record that something happened and tell those who listen."""
        wanting = [endpoint for endpoint in self.endpoints if endpoint.wants(type)]
        event = self.make(
            "event",
            type=type,
            data={"object": copy.deepcopy(thing)},
            api_version=self.document.version,
            pending_webhooks=len(wanting),
            request={"id": None, "idempotency_key": call.key if call else None},
        )
        self.private_of(event)["pending"] = [endpoint.url for endpoint in wanting]
        for endpoint in wanting:
            if endpoint.hold:
                self.held.append((endpoint, event))
            else:
                self.courier.post(endpoint, copy.deepcopy(event))

    def listen(self, endpoint: Endpoint, *, catch_up: bool = False) -> None:
        """Send events to an endpoint from now on; with `catch_up` also those it missed while the sandbox was down."""
        with self.lock:
            self.endpoints.append(endpoint)
            if not catch_up:
                return
            since = self.now() - REDELIVERY_DAYS * DAY
            for event in self.all("event"):
                if event["created"] >= since and endpoint.url in self._private[event["id"]].get("pending", ()):
                    self.courier.post(endpoint, copy.deepcopy(event))
            self._touched.clear()

    def endpoint_of(self, made: Thing) -> Endpoint:
        """The endpoint that a webhook_endpoint object stands for."""
        secret = self.private_of(made)["secret"]
        return Endpoint(made["url"], secret, tuple(made["enabled_events"]), api_version=made["api_version"])

    def deliver(self, order: Iterable[str], *, repeat: int, together: bool) -> None:
        """Send events now and wait: held ones to where they were held for, others again to every endpoint."""
        deliveries = []
        with self.lock:
            wanted = list(order) or [event["id"] for _, event in self.held]
            for id in wanted:
                held = [(endpoint, event) for endpoint, event in self.held if event["id"] == id]
                again = [(endpoint, self.find(id, "event")) for endpoint in self.endpoints]
                deliveries += [pair for pair in held or again for _ in range(repeat)]
            self.held = [pair for pair in self.held if pair[1]["id"] not in wanted]
        self.courier.send_now(deliveries, together=together)

    def _note_delivery(self, endpoint: Endpoint, event: Thing, result: int | str) -> None:
        note = {"webhook": event["type"], "event": event["id"], "url": endpoint.url, "status": result}
        with self.lock:
            self.journal.append(note)
            kept = self.objects.get(event["id"])
            if kept is None or not (isinstance(result, int) and 200 <= result < 300):
                return
            pending = self.private_of(kept)["pending"]
            if endpoint.url in pending:
                pending.remove(endpoint.url)
            kept["pending_webhooks"] = len(pending)
            self.commit()

    # -- Faults

    def fault(self, call: Call, *kinds: str) -> Fault | None:
        """The injected fault that this request meets now, if any; kind "status" stands for every HTTP status."""
        with self.lock:
            for fault in self.faults:
                wanted = fault.kind in kinds or ("status" in kinds and fault.kind.isdigit())
                if not (wanted and fault.times and re.search(fault.match, str(call))):
                    continue
                if not fault.skip:
                    fault.times -= 1
                    return fault
                fault.skip -= 1
        return None
