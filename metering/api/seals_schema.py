"""How the OpenAPI document describes GET /v1/seals and GET /v1/proofs."""

from typing import Any

from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiExample, OpenApiParameter, OpenApiResponse

_ROOT = "9f2a7e0c41d35b8867f1c0a92d4e6b3f58a7c1d2e3f405162738495a6b7c8d9e"
_SEAL = {
    "id": "seal_7k2mcd4f9ghjk3npqrst",
    "day": "2026-11-15",
    "event_count": 48211,
    "root": _ROOT,
    "previous_digest": "41c05d6b7e8f9a0b1c2d3e4f5061728394a5b6c7d8e9fa0b1c2d3e4f50617283",
    "digest": "c7d1e2f3a4b5968778695a4b3c2d1e0ff0e1d2c3b4a5968778695a4b3c2d1e0f",
    "sealed_at": "2026-11-16T00:20:01.412000Z",
}
_PROOF = {
    "organisation": "org_7k2mcd4f9ghjk3npqrst",
    "source": "gateway",
    "id": "req_8f2a",
    "leaf": '["kilotoken.event.1","gateway","req_8f2a","ai.usage","key_7k2mq9xw4v8hn3tbd5rc",'
    '"2026-11-15T12:00:00.000000Z",false,{"input_tokens":1200,"model":"gpt-oss-120b","output_tokens":85}]',
    "leaf_hash": "1f5d0c2b3a4958677685940392a1b0c1d2e3f405162738495a6b7c8d9eafb0c1",
    "index": 31007,
    "size": 48211,
    "path": ["77aa0c2b3a4958677685940392a1b0c1d2e3f405162738495a6b7c8d9eafb0c1", "…"],
    "seal": _SEAL,
}
_TEXT = {"type": "string"}
_NUMBER = {"type": "integer", "minimum": 0}
_PROOF_REPLY: dict[str, Any] = {
    "type": "object",
    "required": list(_PROOF),
    "properties": {
        "organisation": _TEXT,
        "source": _TEXT,
        "id": _TEXT,
        "leaf": _TEXT | {"description": "The event as canonical JSON; its UTF-8 bytes are the leaf."},
        "leaf_hash": _TEXT | {"description": "SHA-256(0x00 || leaf), in hexadecimal."},
        "index": _NUMBER | {"description": "Number of the leaf, from 0."},
        "size": _NUMBER | {"description": "Leaves under the root."},
        "path": {"type": "array", "items": _TEXT, "description": "Hashes on the way to the root, lowest first."},
        "seal": {
            "type": "object",
            "required": list(_SEAL),
            "properties": {name: _NUMBER if name == "event_count" else _TEXT for name in _SEAL},
        },
    },
}
_ORGANISATION = OpenApiParameter(
    "organisation", str, description="Public id or slug. Needed with a service token, not with an access token."
)
_PROBLEM_TYPE = "application/problem+json"


def _refusal(status: int, title: str, code: str, detail: str) -> OpenApiResponse:
    problem = {"type": "about:blank", "title": title, "status": status, "detail": detail, "code": code}
    return OpenApiResponse(OpenApiTypes.OBJECT, detail, [OpenApiExample(code, problem, media_type=_PROBLEM_TYPE)])


def list_responses(output: type[Any]) -> dict[Any, Any]:
    return {200: OpenApiResponse(output(many=True), "A page of seals, newest first")}


LIST: dict[str, Any] = {
    "operation_id": "list_seals",
    "tags": ["Proof"],
    "summary": "List seals",
    "description": """
A seal covers all events of one day of receipt (UTC), whatever their own times, and is made soon after the day is over.
It never changes; late events belong to the day they came in. Days without events have none.

`digest` is the SHA-256 of six lines, each ended by a line feed: `kilotoken seal 1`, the organisation's id, the day, the
number of events, `root`, `previous_digest`. Keep the newest digest somewhere of your own: with it you can show at any
later time that no earlier day was rewritten or cut off.
""",
    "parameters": [_ORGANISATION],
    "examples": [
        OpenApiExample("Seals", {"items": [_SEAL], "next_cursor": None}, response_only=True, status_codes=["200"])
    ],
}
PROOF: dict[str, Any] = {
    "operation_id": "get_proof",
    "tags": ["Proof"],
    "summary": "Prove that an event is sealed",
    "description": """
To check it: hash `leaf` to `leaf_hash`, then go up through `path`, hashing SHA-256(0x01 || left || right): RFC 9162,
section 2.1.3.2, with `index` and `size`. The result must be `seal.root`.

The leaf is the event as JSON without spaces, an array of `kilotoken.event.1`, source, id, type, subject, time (UTC, six
decimals), whether the time was assumed, and data; members sorted by code point, numbers as their shortest decimal. The
script in every export holds all of it in plain Python: `python verify_kilotoken.py proof event.json proof.json` checks
this answer against your event.
""",
    "parameters": [
        _ORGANISATION,
        OpenApiParameter("source", str, required=True, description="The event's source, as it was sent."),
        OpenApiParameter("id", str, required=True, description="The event's id, as it was sent."),
    ],
    "responses": {
        200: OpenApiResponse(_PROOF_REPLY, "The proof", [OpenApiExample("A proof", _PROOF)]),
        (400, _PROBLEM_TYPE): _refusal(400, "Bad Request", "event_required", "The event is not named."),
        (404, _PROBLEM_TYPE): _refusal(404, "Not Found", "unknown_event", "No such event was accepted."),
        (409, _PROBLEM_TYPE): _refusal(409, "Conflict", "not_sealed_yet", "Its day of receipt is not sealed yet."),
    },
}
