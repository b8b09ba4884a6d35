"""/v1/admissions: may this call run, and how did it end? Answers 200 for allow and for deny; the gateway passes the
refusal on with the status and headers that come with it."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import msgspec
from django.http import HttpResponse
from django.utils import timezone
from drf_spectacular.utils import extend_schema
from rest_framework.authentication import BaseAuthentication
from rest_framework.request import Request
from rest_framework.views import APIView

from accounts.api_auth import RememberedTokenAuthentication, TokenAuthentication, caller_of, confirm_token
from accounts.credentials import digest_of
from accounts.models import Scope
from accounts.problems import Problem
from metering import admission
from metering.admission import Admission, AdmissionRequest, Limit
from metering.api import admissions_schema
from metering.api.admission_headers import headers_of
from metering.api.bodies import read_whole
from metering.api.json_alone import JsonAlone
from metering.catalogue import rules_by_event_type
from metering.exact import EXACT, exact_text
from metering.models import Hold

BODY_MAX_BYTES = 2**20
MOST_AT_ONCE = 100
MOST_METERS = 50
SHA256_HEX = 64


class AskedAdmission(msgspec.Struct, forbid_unknown_fields=True):
    call_id: str = ""
    api_key: str = ""
    api_key_sha256: str = ""
    model: str = ""
    end_user: str = ""
    client_ip: str | None = None
    estimate: dict[str, Decimal] | None = None
    prompt_tokens: int | None = None
    max_tokens: int | None = None
    ttl_seconds: int = 600


class AskedAdmissions(AskedAdmission):
    """A body: one call, or several and nothing else."""

    admissions: list[AskedAdmission] | None = None


class AskedUsage(msgspec.Struct, forbid_unknown_fields=True):
    usage: dict[str, Decimal]


class AskedExtension(msgspec.Struct, forbid_unknown_fields=True):
    estimate: dict[str, Decimal] = msgspec.field(default_factory=dict)
    ttl_seconds: int | None = None


class Admissions(APIView):
    content_negotiation_class = JsonAlone
    required_scopes = {"POST": Scope.ADMISSION_WRITE}

    @extend_schema(**admissions_schema.ADMIT)
    def post(self, request: Request) -> HttpResponse:
        raw = read_whole(request._request, BODY_MAX_BYTES)
        now = timezone.now()
        body = _decoded(raw, AskedAdmissions)
        if body.admissions is not None:
            many = _many(body)
            confirm_token(request)
            return _json({"admissions": [answer_body(one, now) for one in admission.admit_all(many, now=now)]})
        asked = _asked(body)
        try:
            answer = admission.admit(asked, now=now, service_token_id=caller_of(request).token.pk)
        except admission.TokenEnded:
            confirm_token(request)
            raise
        response = _json(answer_body(answer, now))
        for name, value in headers_of(answer, now).items():
            response.headers[name] = value
        return response

    def get_authenticators(self) -> list[BaseAuthentication]:
        """The statement that looks the key up also looks whether the token is live."""
        is_asking = self.request is not None and self.request.method == "POST"
        return [RememberedTokenAuthentication() if is_asking else TokenAuthentication()]


class OneAdmission(APIView):
    required_scopes = {"GET": Scope.ADMISSION_WRITE}

    @extend_schema(**admissions_schema.READ)
    def get(self, request: Request, admission_id: str) -> HttpResponse:
        return _json(_hold(_found(request, admission_id)))


class Settlement(APIView):
    required_scopes = {"POST": Scope.ADMISSION_WRITE}

    @extend_schema(**admissions_schema.SETTLE)
    def post(self, request: Request, admission_id: str) -> HttpResponse:
        usage = _units(_body(request, AskedUsage).usage, "usage")
        _require_some_meter(usage)
        return _json(_hold(admission.settle(_found(request, admission_id), usage, now=timezone.now())))


class Release(APIView):
    required_scopes = {"POST": Scope.ADMISSION_WRITE}

    @extend_schema(**admissions_schema.RELEASE)
    def post(self, request: Request, admission_id: str) -> HttpResponse:
        return _json(_hold(admission.release(_found(request, admission_id), now=timezone.now())))


class Extension(APIView):
    required_scopes = {"POST": Scope.ADMISSION_WRITE}

    @extend_schema(**admissions_schema.EXTEND)
    def post(self, request: Request, admission_id: str) -> HttpResponse:
        asked = _body(request, AskedExtension)
        longer = None if asked.ttl_seconds is None else timedelta(seconds=_seconds(asked.ttl_seconds))
        more = _units(asked.estimate, "estimate")
        hold = _found(request, admission_id)
        return _json(_hold(admission.extend(hold, more, time_to_live=longer, now=timezone.now())))


# --- Reading what is asked ----------------------------------------------------------------------------------------


def _many(body: AskedAdmissions) -> list[AdmissionRequest]:
    asked = body.admissions or []
    if body != AskedAdmissions(admissions=asked) or not 1 <= len(asked) <= MOST_AT_ONCE:
        raise Problem(400, "invalid_request", f"Send 1 to {MOST_AT_ONCE} requests under `admissions`, nothing else.")
    return [_asked(one) for one in asked]


def _body[T](request: Request, kind: type[T]) -> T:
    return _decoded(read_whole(request._request, BODY_MAX_BYTES) or b"{}", kind)


def _decoded[T](raw: bytes, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(raw, type=kind)
    except msgspec.ValidationError as error:
        raise Problem(400, "invalid_request", f"The body does not fit: {error}.") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Problem(400, "malformed_json", "The body is not valid JSON.") from error


def _asked(one: AskedAdmission) -> AdmissionRequest:
    texts = (("call_id", one.call_id, 255), ("model", one.model, 200), ("end_user", one.end_user, 200))
    for name, text, longest in texts:
        if len(text) > longest or "\x00" in text:
            raise Problem(400, "invalid_request", f"`{name}` may have {longest} characters, and not NUL.")
    if not one.call_id:
        raise Problem(400, "invalid_request", "`call_id` is the gateway's own id of the call: it cannot be empty.")
    for name, tokens in (("prompt_tokens", one.prompt_tokens), ("max_tokens", one.max_tokens)):
        if tokens is not None and not 0 <= tokens <= 10**12:
            raise Problem(400, "invalid_request", f"`{name}` is a whole number from 0 up.")
    return AdmissionRequest(
        call_id=one.call_id,
        key_digest=_digest(one),
        model=one.model,
        end_user=one.end_user,
        client_ip=one.client_ip,
        estimate=None if one.estimate is None else _units(one.estimate, "estimate"),
        prompt_tokens=one.prompt_tokens,
        max_tokens=one.max_tokens,
        time_to_live=timedelta(seconds=_seconds(one.ttl_seconds)),
    )


def _digest(one: AskedAdmission) -> str:
    if bool(one.api_key) == bool(one.api_key_sha256):
        raise Problem(400, "invalid_request", "Name the key once: by `api_key`, or by `api_key_sha256`.")
    if one.api_key:
        return digest_of(one.api_key)
    digest = one.api_key_sha256.lower()
    if len(digest) != SHA256_HEX or not set(digest) <= set("0123456789abcdef"):
        raise Problem(400, "invalid_request", "`api_key_sha256` is the SHA-256 of the whole key, 64 hex digits.")
    return digest


def _seconds(seconds: int) -> int:
    if not 30 <= seconds <= 3600:
        raise Problem(400, "invalid_request", "`ttl_seconds` is a number of seconds from 30 to 3600.")
    return seconds


def _units(units: Mapping[str, Decimal], name: str) -> dict[str, Decimal]:
    if len(units) > MOST_METERS:
        raise Problem(400, "invalid_request", f"`{name}` may name {MOST_METERS} meters.")
    for meter, amount in units.items():
        is_sane = amount.is_finite() and amount >= 0 and amount.adjusted() < 24
        if not is_sane or len(amount.as_tuple().digits) > 40 or not 1 <= len(meter) <= 63 or "\x00" in meter:
            raise Problem(
                400, "invalid_request", f"`{name}` maps meters to numbers from 0 up: {meter[:63]!r} does not fit."
            )
    return dict(units)


def _require_some_meter(usage: Mapping[str, Decimal]) -> None:
    """A misspelt meter alone would settle a call as if it had used nothing."""
    known = {rule.key for rules in rules_by_event_type().values() for rule in rules}
    if usage and not known & usage.keys():
        raise Problem(400, "unknown_meter", f"None of these is a meter: {', '.join(sorted(usage))[:200]}.")


def _found(request: Request, admission_id: str) -> Hold:
    return admission.find_hold(admission_id, organisation=request.query_params.get("organisation", ""))


# --- Writing what is answered -------------------------------------------------------------------------------------


def _json(body: Any) -> HttpResponse:
    return HttpResponse(msgspec.json.encode(body), content_type="application/json")


def answer_body(answer: Admission, now: datetime) -> dict[str, Any]:
    bound = answer.unreachable
    return {
        "id": answer.id,
        "call_id": answer.call_id,
        "decision": "allow" if answer.is_allowed else "deny",
        "expires_at": answer.expires_at,
        "organisation": answer.organisation,
        "project": answer.project,
        "api_key": answer.api_key,
        "estimate": {meter: _amount(units) for meter, units in answer.estimate.items()},
        "quoted": None if answer.quoted is None else {"amount": _amount(answer.quoted), "currency": answer.currency},
        "limits": [limit_body(limit) for limit in answer.limits],
        "warnings": [
            f"The limit of {_amount(limit.amount)} {limit.unit or limit.measure} is passed." for limit in answer.passed
        ],
        "when_unreachable": {
            "mode": bound.mode,
            "max_amount": None if bound.max_amount is None else _amount(bound.max_amount),
            "currency": bound.currency or answer.currency,
            "max_requests": bound.max_requests,
        },
        "reason": _reason(answer, now),
    }


def _reason(answer: Admission, now: datetime) -> dict[str, Any] | None:
    refusal = answer.refusal
    if refusal is None:
        return None
    limit = refusal.limit
    return {
        "code": refusal.code,
        "message": refusal.message,
        "status": refusal.status,
        "limit": limit and limit.quota,
        "window": limit and limit.window,
        "remaining": limit and _amount(limit.remaining),
        "resets_at": limit and limit.resets_at,
        "retry_after_seconds": refusal.retry_after(now),
        "headers": headers_of(answer, now),
    }


def limit_body(limit: Limit) -> dict[str, Any]:
    return {
        "quota": limit.quota,
        "measure": limit.measure,
        "meter": limit.unit if limit.measure == "meter" else "",
        "currency": limit.unit if limit.measure == "spend" else "",
        "scope": limit.scope,
        "window": limit.window,
        "models": list(limit.models),
        "enforcement": "hard" if limit.is_hard else "soft",
        "amount": _amount(limit.amount),
        "used": _amount(limit.used),
        "held": _amount(limit.held),
        "remaining": _amount(limit.remaining),
        "overdraft": _amount(limit.overdraft),
        "resets_at": limit.resets_at,
    }


def _amount(amount: Decimal) -> str:
    """Every digit that says something: 100.000 is 100."""
    return exact_text(EXACT.normalize(amount))


def _hold(hold: Hold) -> dict[str, Any]:
    return {
        "id": hold.id,
        "call_id": hold.call_id,
        "state": hold.state,
        "model": hold.model,
        "created_at": hold.created_at,
        "expires_at": hold.expires_at,
        "ended_at": hold.ended_at,
        "estimate": hold.estimate,
        "usage": hold.usage,
        "was_late": hold.was_late,
        "reported": hold.event_key is not None,
    }
