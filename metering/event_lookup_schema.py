"""How the OpenAPI document describes what became of an event, for the addresses of metering and of billing."""

from typing import Any

from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiExample, OpenApiParameter, OpenApiResponse

_TEXT = {"type": "string"}
_TEXT_OR_NULL = {"type": "string", "nullable": True}
_INSTANT = {"type": "string", "format": "date-time"}
_COUNT = {"type": "integer", "minimum": 0}


def _object(description: str = "", **properties: Any) -> dict[str, Any]:
    described = {"description": description} if description else {}
    return {"type": "object", "required": list(properties), "properties": properties} | described


_NAMED: dict[str, Any] = _object(source=_TEXT, id=_TEXT, type=_TEXT) | {"nullable": True}
_FEED = _object(
    meter=_TEXT,
    model=_TEXT | {"description": "Empty: the meter is not kept apart by model, or the event has none."},
    value=_TEXT | {"description": "A decimal."},
    interval_start=_INSTANT,
    interval_end=_INSTANT,
    labels={
        "type": "object",
        "additionalProperties": {"type": "string"},
        "description": "The other dimensions by which the meter is kept apart, such as service_tier.",
    },
)
_ACCEPTANCE: dict[str, Any] = _object(
    "Null if nothing was accepted under this name.",
    type=_TEXT,
    subject=_TEXT,
    time=_INSTANT,
    time_assumed={"type": "boolean"},
    received_at=_INSTANT,
    format=_TEXT | {"description": "The way in."},
    batch={"type": "integer"},
    folded_at=_INSTANT | {"nullable": True, "description": "Null: not in the totals yet, which takes seconds."},
    project=_TEXT_OR_NULL,
    api_key=_TEXT_OR_NULL,
    data={"type": "object", "additionalProperties": True},
    feeds={
        "type": "array",
        "items": _FEED,
        "description": "Meters it feeds, and the quarter hour in which that counts. Empty: nothing reads it, or it was "
        "corrected and what counts is with the correction.",
    },
    corrects=_NAMED,
    corrected_by=_NAMED,
) | {"nullable": True}
_REFUSAL = _object(
    verdict=_TEXT | {"enum": ["conflict", "rejected"]},
    reason=_TEXT,
    detail=_TEXT | {"description": "What to do about it."},
    state=_TEXT | {"enum": ["open", "replayed", "dismissed"]},
    settlement=_TEXT | {"description": "What became of a replay, or why it was dismissed."},
    seen_count=_COUNT,
    first_seen_at=_INSTANT,
    last_seen_at=_INSTANT,
)
_FACTS = _object(
    source=_TEXT,
    id=_TEXT,
    verdict=_TEXT | {"enum": ["accepted", "rejected"]},
    acceptance=_ACCEPTANCE,
    refusals={"type": "array", "items": _REFUSAL, "description": "Newest first, 20 at most."},
)
_NONE: dict[str, Any] = {"corrects": None, "corrected_by": None}
_SAMPLE = {
    "source": "gateway",
    "id": "req_8f2a",
    "verdict": "accepted",
    "acceptance": {
        "type": "ai.usage",
        "subject": "key_7k2mq9xw4v8hn3tbd5rc",
        "time": "2026-11-15T12:07:00Z",
        "time_assumed": False,
        "received_at": "2026-11-15T12:07:03.120000Z",
        "format": "cloudevents",
        "batch": 48211,
        "folded_at": "2026-11-15T12:07:04.001000Z",
        "project": "proj_7k2mcd4f9ghjk3npqrst",
        "api_key": "key_7k2mq9xw4v8hn3tbd5rc",
        "data": {"model": "gpt-5-mini", "input_tokens": 1200},
        "feeds": [
            {
                "meter": "input_tokens",
                "model": "gpt-5-mini",
                "value": "1200",
                "interval_start": "2026-11-15T12:00:00Z",
                "interval_end": "2026-11-15T12:15:00Z",
                "labels": {},
            }
        ],
        **_NONE,
    },
    "refusals": [],
}
_PROBLEM_TYPE = "application/problem+json"


def _refusal(status: int, title: str, code: str, detail: str) -> OpenApiResponse:
    problem = {"type": "about:blank", "title": title, "status": status, "detail": detail, "code": code}
    return OpenApiResponse(OpenApiTypes.OBJECT, detail, [OpenApiExample(code, problem, media_type=_PROBLEM_TYPE)])


_RESPONSES: dict[Any, Any] = {
    200: OpenApiResponse(_FACTS, "What became of it", [OpenApiExample("Accepted", _SAMPLE)]),
    (400, _PROBLEM_TYPE): _refusal(400, "Bad Request", "event_required", "The event is not named."),
    (404, _PROBLEM_TYPE): _refusal(404, "Not Found", "unknown_event", "Nothing of that name ever arrived."),
}
_ORGANISATION = OpenApiParameter(
    "organisation", str, description="Public id or slug. With a service token this or `subject` is needed."
)
_SUBJECT = OpenApiParameter(
    "subject", str, description="With a service token: the event's subject, as it was sent, where its owner is unknown."
)
GET: dict[str, Any] = {
    "operation_id": "get_event",
    "tags": ["Events"],
    "summary": "Ask what became of an event",
    "description": """
The verdict on an event by its source and id: accepted, with the meters it feeds, the quarter hour in which it counts
and what corrected it; or rejected, with all reasons. Conflicting bodies sent under the same name are among the
`refusals`. `GET /v1/events/{source}/{id}` answers the same with the lines of bills that it feeds. Needs the scope
`events:write` or `usage:read`.
""",
    "parameters": [
        _ORGANISATION,
        _SUBJECT,
        OpenApiParameter("source", str, required=True, description="The event's source, as it was sent."),
        OpenApiParameter("id", str, required=True, description="The event's id, as it was sent."),
    ],
    "responses": _RESPONSES,
}
_BY_PATH = """
The same for an event named in the path, with the lines of bills that it feeds (`bill_lines`, null for a token without
the scope `billing:read`). Encode source and id for a URL: `https://gw.example/eu` is `https%3A%2F%2Fgw.example%2Feu`.
Servers decode slashes before anybody sees them, so a name that may be read in two ways of which both exist is refused
with 409 `ambiguous_event`; `GET /v1/events?source=…&id=…` takes any.
"""


def get_by_path(lines: dict[str, Any], line: dict[str, Any]) -> dict[str, Any]:
    """Of `/v1/events/{name}`: `lines` is the schema of the bill's lines, `line` one for the example."""
    reply = _FACTS | {"properties": _FACTS["properties"] | {"bill_lines": lines}}
    reply["required"] = [*_FACTS["required"], "bill_lines"]
    example = OpenApiExample("Accepted", {**_SAMPLE, "bill_lines": [line]})
    ambiguous = _refusal(409, "Conflict", "ambiguous_event", "The path names two events.")
    return GET | {
        "operation_id": "get_event_by_path",
        "summary": "Ask what became of an event, and which lines of bills it feeds",
        "description": _BY_PATH,
        "parameters": [
            _ORGANISATION,
            _SUBJECT,
            OpenApiParameter("name", str, OpenApiParameter.PATH, description="Source, a slash, and id."),
        ],
        "responses": _RESPONSES
        | {200: OpenApiResponse(reply, "What became of it", [example]), (409, _PROBLEM_TYPE): ambiguous},
    }
