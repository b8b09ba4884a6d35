"""How the OpenAPI document describes /v1/admissions."""

from typing import Any

from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiExample, OpenApiParameter, OpenApiRequest, OpenApiResponse

_TEXT = {"type": "string"}
_AMOUNT = {"type": "string", "description": "A decimal."}
_WHEN = {"type": "string", "format": "date-time", "nullable": True}
_UNITS = {"type": "object", "additionalProperties": {"oneOf": [{"type": "number", "minimum": 0}, _TEXT]}}
_ASKED: dict[str, Any] = {
    "type": "object",
    "required": ["call_id"],
    "additionalProperties": False,
    "properties": {
        "call_id": {
            "type": "string",
            "minLength": 1,
            "maxLength": 255,
            "description": "The gateway's own id of the call. Asking again with it is answered with the same hold. Do "
            "not let callers choose it.",
        },
        "api_key": _TEXT | {"description": "The key as presented; or else `api_key_sha256`."},
        "api_key_sha256": _TEXT | {"description": "SHA-256 of the whole key, in hexadecimal."},
        "model": {"type": "string", "maxLength": 200},
        "end_user": {"type": "string", "maxLength": 200},
        "client_ip": _TEXT | {"nullable": True, "description": "Needed for keys that are bound to networks."},
        "estimate": _UNITS | {"nullable": True, "description": "Units by meter that the call may need at most."},
        "prompt_tokens": {"type": "integer", "minimum": 0, "nullable": True, "description": "Without an estimate."},
        "max_tokens": {"type": "integer", "minimum": 0, "nullable": True, "description": "Without an estimate."},
        "ttl_seconds": {"type": "integer", "minimum": 30, "maximum": 3600, "default": 600},
    },
}
_MANY = {
    "type": "object",
    "required": ["admissions"],
    "additionalProperties": False,
    "properties": {"admissions": {"type": "array", "items": _ASKED, "minItems": 1, "maxItems": 100}},
}
_LIMIT = {
    "quota": "quota_7k2mcd4f9ghjk3npqrst",
    "measure": "meter",
    "meter": "output_tokens",
    "currency": "",
    "scope": "api_key",
    "window": "minute",
    "models": [],
    "enforcement": "hard",
    "amount": "20000",
    "used": "15200",
    "held": "4000",
    "remaining": "800",
    "overdraft": "0",
    "resets_at": "2026-11-22T18:01:00Z",
}
_ALLOWED = {
    "id": "adm_7k2mcd4f9ghjk3npqrst",
    "call_id": "chatcmpl-8f2a",
    "decision": "allow",
    "expires_at": "2026-11-22T18:10:12Z",
    "organisation": "org_7k2mcd4f9ghjk3npqrst",
    "project": "proj_7k2mcd4f9ghjk3npqrst",
    "api_key": "key_7k2mcd4f9ghjk3npqrst",
    "estimate": {"input_tokens": "1200", "output_tokens": "4000"},
    "quoted": {"amount": "0.043", "currency": "USD"},
    "limits": [_LIMIT],
    "warnings": [],
    "when_unreachable": {"mode": "open", "max_amount": None, "currency": "USD", "max_requests": 1000},
    "reason": None,
}
_DENIED = {
    **_ALLOWED,
    "id": None,
    "decision": "deny",
    "expires_at": None,
    "reason": {
        "code": "quota_exceeded",
        "message": "The limit of 20,000 output tokens per minute is reached; it starts anew at 2026-11-22 18:01 UTC.",
        "status": 429,
        "limit": _LIMIT["quota"],
        "window": "minute",
        "remaining": "800",
        "resets_at": "2026-11-22T18:01:00Z",
        "retry_after_seconds": 48,
        "headers": {"retry-after": "48", "x-ratelimit-remaining-tokens": "800"},
    },
}
_HOLD = {
    "id": "adm_7k2mcd4f9ghjk3npqrst",
    "call_id": "chatcmpl-8f2a",
    "state": "settled",
    "model": "gpt-oss-120b",
    "created_at": "2026-11-22T18:00:12Z",
    "expires_at": "2026-11-22T18:10:12Z",
    "ended_at": "2026-11-22T18:00:19Z",
    "estimate": {"input_tokens": "1200", "output_tokens": "4000"},
    "usage": {"input_tokens": "1187", "output_tokens": "512"},
    "was_late": False,
    "reported": False,
}
_ANSWER = {"type": "object", "required": ["id", "call_id", "decision", "limits", "reason"]}
_HOLD_SHAPE: dict[str, Any] = {
    "type": "object",
    "required": list(_HOLD),
    "properties": {"id": _TEXT, "state": {"type": "string", "enum": ["held", "settled", "released", "expired"]}},
}
_ID = [
    OpenApiParameter(
        "admission_id", str, "path", description="`adm_…`, or `call:` and the call id with `organisation` in the query."
    ),
    OpenApiParameter("organisation", str, description="Public id or slug; only for `call:…`."),
]
_REFUSALS = {
    (status, "application/problem+json"): OpenApiResponse(OpenApiTypes.OBJECT, "Refused")
    for status in (400, 401, 403, 413, 415)
}
_UNKNOWN = {(404, "application/problem+json"): OpenApiResponse(OpenApiTypes.OBJECT, "There is no such admission")}
_ENDED = {
    (409, "application/problem+json"): OpenApiResponse(OpenApiTypes.OBJECT, "It has ended"),
    (402, "application/problem+json"): OpenApiResponse(OpenApiTypes.OBJECT, "A limit leaves no room for more"),
}
_TAGS = ["Admission"]


def _hold_answer(text: str) -> OpenApiResponse:
    return OpenApiResponse(_HOLD_SHAPE, text, [OpenApiExample("A hold", _HOLD, response_only=True)])


def _request(properties: dict[str, Any], required: list[str], example: dict[str, Any]) -> OpenApiRequest:
    shape = {"type": "object", "properties": properties, "required": required, "additionalProperties": False}
    return OpenApiRequest(shape, examples=[OpenApiExample("Request", example, request_only=True)])


ADMIT: dict[str, Any] = {
    "operation_id": "admit",
    "summary": "Ask whether a call may run",
    "description": "Answers 200 for allow and deny. A call that is allowed holds what it needs on every limit it "
    "touches until its usage is reported (an event with `data.admission`), it is settled or released, or it expires. "
    "A refusal comes with the status, the sentence and the headers to hand to the caller.",
    "tags": _TAGS,
    "request": OpenApiRequest(
        {"oneOf": [_ASKED, _MANY]},
        examples=[
            OpenApiExample(
                "A call",
                {"call_id": "chatcmpl-8f2a", "api_key_sha256": "9f2a…", "model": "gpt-oss-120b", "max_tokens": 4000},
                request_only=True,
            )
        ],
    ),
    "responses": {
        200: OpenApiResponse(
            _ANSWER,
            "Allowed or denied",
            [
                OpenApiExample("Allowed", _ALLOWED, response_only=True),
                OpenApiExample("Denied", _DENIED, response_only=True),
            ],
        ),
        **_REFUSALS,
    },
}
READ: dict[str, Any] = {
    "operation_id": "get_admission",
    "summary": "What became of an admission",
    "tags": _TAGS,
    "parameters": _ID,
    "responses": {200: _hold_answer("The hold"), **_REFUSALS, **_UNKNOWN},
}
SETTLE: dict[str, Any] = {
    "operation_id": "settle_admission",
    "summary": "Settle an admission with what was used",
    "description": "For gateways that report usage later. Whichever comes second, this or the event, changes nothing. "
    "Usage of which nothing is a meter is refused, so that a misspelt one is noticed.",
    "tags": _TAGS,
    "parameters": _ID,
    "request": _request({"usage": _UNITS}, ["usage"], {"usage": {"input_tokens": 1187, "output_tokens": 512}}),
    "responses": {200: _hold_answer("The hold, settled"), **_REFUSALS, **_UNKNOWN},
}
RELEASE: dict[str, Any] = {
    "operation_id": "release_admission",
    "summary": "Release an admission: the call did not happen",
    "tags": _TAGS,
    "parameters": _ID,
    "request": None,
    "responses": {200: _hold_answer("The hold, released, or as it had ended"), **_REFUSALS, **_UNKNOWN},
}
EXTEND: dict[str, Any] = {
    "operation_id": "extend_admission",
    "summary": "Hold more for a call that goes on",
    "tags": _TAGS,
    "parameters": _ID,
    "request": _request(
        {"estimate": _UNITS, "ttl_seconds": {"type": "integer", "minimum": 30, "maximum": 3600}},
        [],
        {"estimate": {"output_tokens": 2000}, "ttl_seconds": 300},
    ),
    "responses": {200: _hold_answer("The hold, with more on it"), **_REFUSALS, **_UNKNOWN, **_ENDED},
}
