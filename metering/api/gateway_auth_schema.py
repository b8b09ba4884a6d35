"""How the OpenAPI document describes /v1/authorize."""

from typing import Any

from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiExample, OpenApiParameter, OpenApiResponse

_DENIAL: dict[str, Any] = {
    "type": "object",
    "description": "As POST /v1/admissions answers, and `error` as clients of OpenAI read it.",
    "additionalProperties": True,
}
_EXAMPLE = {
    "decision": "deny",
    "reason": {"code": "spend_limit_exceeded", "status": 402, "message": "The spending limit of 5 USD is reached."},
    "error": {
        "message": "The spending limit of 5 USD is reached.",
        "type": "spend_limit_exceeded",
        "param": None,
        "code": "spend_limit_exceeded",
    },
}
_PROBLEM = OpenApiResponse(OpenApiTypes.OBJECT, "The gateway's own token does not work, or lacks the scope.")
_NUMBER = {"type": "string", "pattern": "^[0-9]{1,12}$"}


def _header(name: str, description: str, schema: Any = OpenApiTypes.STR) -> OpenApiParameter:
    return OpenApiParameter(name, schema, OpenApiParameter.HEADER, description=description)


def _denied(description: str) -> OpenApiResponse:
    examples = [OpenApiExample("Refused", _EXAMPLE, response_only=True)]
    return OpenApiResponse(_DENIAL, description=description, examples=examples)


AUTHORIZE: dict[str, Any] = {
    "operation_id": "authorize",
    "tags": ["Admission"],
    "summary": "May this call pass? For nginx's auth_request and Envoy's ext_authz",
    "description": (
        "Answers by status and headers. The gateway's service token (scope `admission:write`) stands in "
        "`X-Kilotoken-Token`, with the caller's own Authorization beside it, or in Authorization, with the caller's in "
        "`X-Original-Authorization`. What is said in `X-Kilotoken-*` headers may be said in the query of exactly this "
        "address too (`model`, `max_tokens` …). An allowed call holds what it may need: name the admission in the "
        "event that reports it. Where a gateway hands the call's JSON body on, the model, the end user and the sizes "
        "are read from it, unless headers say them; nothing of it is kept. Envoy asks below this address "
        "(`/v1/authorize/v1/chat/completions`), by any method."
    ),
    "parameters": [
        _header("X-Kilotoken-Token", "The gateway's service token."),
        _header("X-Original-Authorization", "The caller's Authorization header."),
        _header("X-Kilotoken-Key-Sha256", "The key's SHA-256 instead; only with the token in Authorization."),
        _header("X-Kilotoken-Call-Id", "The gateway's own id of the call; one is made up otherwise."),
        _header("X-Kilotoken-Model", "The model called."),
        _header("X-Kilotoken-Prompt-Tokens", "How long the prompt is.", _NUMBER),
        _header("X-Kilotoken-Max-Tokens", "The most that may be answered.", _NUMBER),
        _header("X-Kilotoken-End-User", "For whom the call is made."),
        _header("X-Kilotoken-Client-Ip", "Where the caller is, for keys that are bound to networks."),
        _header("X-Kilotoken-Hold", "`none`: only whose key it is; nothing is held."),
        _header("X-Kilotoken-Gateway", "`nginx`: refusals other than 401 come as 403, with x-kilotoken-status."),
    ],
    "responses": {
        200: OpenApiResponse(
            _DENIAL | {"description": "As POST /v1/admissions answers."},
            description="Allowed: x-kilotoken-admission, -model, -organisation, -project, -key, x-ratelimit-… too.",
        ),
        **{(status, "application/problem+json"): _PROBLEM for status in (401, 403)},
        (402, "application/json"): _denied("No money is left for it."),
        (403, "application/json"): _denied("This key may not, or the token lacks the scope."),
        (409, "application/json"): _denied("The call of this id has ended."),
        (429, "application/json"): _denied("A limit is reached; Retry-After says for how long."),
        (401, "application/json"): _denied(
            "The key is missing, unknown, revoked or expired; or the gateway's token is."
        ),
    },
}
