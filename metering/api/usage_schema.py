"""How the OpenAPI document describes GET /v1/usage."""

from typing import Any

from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiExample, OpenApiParameter, OpenApiResponse

from metering.buckets import GRANULARITIES

_TIME = {"type": "string", "format": "date-time"}
_ITEM: dict[str, Any] = {
    "type": "object",
    "description": "One figure. It also has a member for each name in `group_by`; null: it has none.",
    "required": ["start", "end", "value", "events"],
    "properties": {
        "start": _TIME,
        "end": _TIME | {"description": "Not included."},
        "meter": {"type": "string"},
        "model": {"type": "string", "nullable": True},
        "project": {"type": "string", "nullable": True},
        "api_key": {"type": "string", "nullable": True},
        "value": {"type": "string", "format": "decimal", "description": "In the meter's unit, exact."},
        "events": {"type": "integer", "description": "Events that went into the value."},
    },
    "additionalProperties": {"type": "string", "nullable": True},
}
_REPLY: dict[str, Any] = {
    "type": "object",
    "required": [
        "organisation", "time_zone", "from", "to", "granularity", "group_by", "pending_events", "names", "items",
        "next_cursor",
    ],
    "properties": {
        "organisation": {"type": "string"},
        "time_zone": {"type": "string", "description": "Days and months are this zone's."},
        "from": _TIME | {"description": "Moved back to a quarter hour if need be."},
        "to": _TIME | {"description": "Not included; moved on to a quarter hour if need be."},
        "granularity": {"type": "string", "enum": list(GRANULARITIES)},
        "group_by": {"type": "array", "items": {"type": "string"}},
        "pending_events": {"type": "integer", "description": "Accepted events that the figures do not hold yet."},
        "names": {
            "type": "object",
            "description": "Group, then id, then what people call it.",
            "additionalProperties": {"type": "object", "additionalProperties": {"type": "string"}},
        },
        "items": {"type": "array", "items": _ITEM},
        "next_cursor": {"type": "string", "nullable": True, "description": "Null on the last page."},
    },
}  # fmt: skip

_SAMPLE = {
    "organisation": "org_7k2mcd4f9ghjk3npqrst",
    "time_zone": "Europe/Berlin",
    "from": "2026-11-01T00:00:00+01:00",
    "to": "2026-11-03T00:00:00+01:00",
    "granularity": "day",
    "group_by": ["meter", "model"],
    "pending_events": 0,
    "names": {"meter": {"input_tokens": "Input tokens"}},
    "items": [
        {
            "start": "2026-11-01T00:00:00+01:00",
            "end": "2026-11-02T00:00:00+01:00",
            "meter": "input_tokens",
            "model": "gpt-oss-120b",
            "value": "18059974",
            "events": 8819,
        },
    ],
    "next_cursor": None,
}
_PROBLEM = {
    "type": "about:blank",
    "title": "Bad Request",
    "status": 400,
    "detail": "requests and tokens cannot be added up: choose meters of one unit, or group by meter.",
    "code": "mixed_units",
}


def _parameter(name: str, description: str, **options: Any) -> OpenApiParameter:
    return OpenApiParameter(name, options.pop("type", str), description=description, **options)


GET: dict[str, Any] = {
    "operation_id": "read_usage",
    "tags": ["Usage"],
    "summary": "Read usage",
    "description": "Exact sums by time and dimensions: the same figures that the usage page shows and that bills are "
    "made of. Buckets without usage are left out. Pages hold whole buckets.",
    "parameters": [
        _parameter("organisation", "Public id or slug. Needed with a service token, not with an access token."),
        _parameter("from", "A day, from its start in the organisation's zone, or an instant; by default this month."),
        _parameter("to", "A day or an instant, not included; by default now."),
        _parameter("granularity", "Length of a bucket; by default a day.", enum=GRANULARITIES),
        _parameter(
            "group_by",
            "meter, model, project, api_key or a label; several by commas or repetition; by default meter. Without "
            "`meter`, choose meters of one unit in `meter`.",
            many=True,
        ),
        _parameter("meter", "Only these meters, by key.", many=True),
        _parameter("model", "Only these models.", many=True),
        _parameter("project", "Only these projects, by public id.", many=True),
        _parameter("api_key", "Only these API keys, by public id.", many=True),
        _parameter("label.<name>", "Only series with this label."),
        _parameter("limit", "Buckets per page, up to 1000; by default 100.", type=int),
        _parameter("cursor", "`next_cursor` of the page before; all other parameters must stay the same."),
    ],
    "responses": {
        200: OpenApiResponse(_REPLY, "Usage.", examples=[OpenApiExample("Two days by meter and model", value=_SAMPLE)]),
        (400, "application/problem+json"): OpenApiResponse(
            OpenApiTypes.OBJECT,
            "A parameter is wrong, or what is asked cannot be added up.",
            examples=[OpenApiExample("Mixed units", value=_PROBLEM)],
        ),
    },
}
