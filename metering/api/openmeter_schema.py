"""How the OpenAPI document describes the addresses that OpenMeter's clients use."""

from typing import Any

from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiExample, OpenApiParameter, OpenApiResponse

from metering.api import events_schema

_POST_DESCRIPTION = """
For OpenMeter's clients and LiteLLM's `openmeter` callback (`OPENMETER_API_ENDPOINT=https://…`,
`OPENMETER_API_KEY=kt-service-…`): takes CloudEvents as `POST /v1/events` does and answers 204 for everything that could
be kept, if only as rejected. LiteLLM's `litellm_tokens` become `ai.usage`; since they say nothing about caching, all of
the prompt counts as uncached and is flagged. Prefer `POST /v1/litellm`, or `POST /v1/events` for a verdict per event.
"""
_SAMPLE = {
    "specversion": "1.0",
    "type": "litellm_tokens",
    "id": "chatcmpl-1",
    "time": "2026-11-15T12:00:00Z",
    "subject": "key_7k2mq9xw4v8hn3tbd5rc",
    "source": "litellm-proxy",
    "data": {"model": "gpt-5-mini", "cost": 0.00047, "prompt_tokens": 1500, "completion_tokens": 85},
}

POST: dict[str, Any] = {
    "operation_id": "send_openmeter_events",
    "summary": "Send usage as OpenMeter's clients do",
    "description": _POST_DESCRIPTION,
    "tags": ["OpenMeter"],
    "request": events_schema.POST["request"],
    "responses": {
        204: OpenApiResponse(description="Everything is kept."),
        400: OpenApiResponse(description="Not JSON at all, not gzip, or broken off."),
        413: OpenApiResponse(description="A JSON body over 32 MiB: send NDJSON."),
        415: OpenApiResponse(description="Another media type or encoding."),
        503: OpenApiResponse(description="The database did not answer: send the same again."),
    },
    "examples": [OpenApiExample("From LiteLLM", _SAMPLE, request_only=True, media_type="application/cloudevents+json")],
}

_ROW: dict[str, Any] = {
    "type": "object",
    "required": ["value", "windowStart", "windowEnd", "subject", "groupBy"],
    "properties": {
        "value": {"type": "number", "description": "Exact, with every digit."},
        "windowStart": {"type": "string", "format": "date-time"},
        "windowEnd": {"type": "string", "format": "date-time"},
        "subject": {"type": "string", "nullable": True},
        "groupBy": {"type": "object", "additionalProperties": {"type": "string", "nullable": True}},
    },
}
_REPLY: dict[str, Any] = {
    "type": "object",
    "required": ["from", "to", "data"],
    "properties": {
        "from": {"type": "string", "format": "date-time"},
        "to": {"type": "string", "format": "date-time"},
        "windowSize": {"type": "string", "enum": ["HOUR", "DAY", "MONTH"]},
        "data": {"type": "array", "items": _ROW},
    },
}
_SAMPLE_REPLY = {
    "from": "2026-11-01T00:00:00Z",
    "to": "2026-11-02T00:00:00Z",
    "windowSize": "DAY",
    "data": [
        {
            "value": 1500,
            "windowStart": "2026-11-01T00:00:00Z",
            "windowEnd": "2026-11-02T00:00:00Z",
            "subject": None,
            "groupBy": {"model": "gpt-5-mini"},
        }
    ],
}


def _parameter(name: str, description: str, **options: Any) -> OpenApiParameter:
    return OpenApiParameter(name, options.pop("type", OpenApiTypes.STR), description=description, **options)


GET: dict[str, Any] = {
    "operation_id": "query_openmeter_meter",
    "summary": "Query a meter as OpenMeter's clients do",
    "description": "Sums of one meter by window and group. A window without usage has no row.",
    "tags": ["OpenMeter"],
    "parameters": [
        _parameter("key", "The meter: `input_tokens`.", location=OpenApiParameter.PATH),
        _parameter("from", "31 days before `to` if left out.", type=OpenApiTypes.DATETIME),
        _parameter("to", "Now if left out.", type=OpenApiTypes.DATETIME),
        _parameter("windowSize", "Left out: one window for all.", enum=["HOUR", "DAY", "MONTH"]),
        _parameter("windowTimeZone", "UTC if left out. Longer ranges only in the organisation's own zone."),
        _parameter("subject", "API keys, or the organisation. Needed with a service token.", many=True),
        _parameter("groupBy", "`subject`, `project`, `model` and the meter's other dimensions.", many=True),
        _parameter("filterGroupBy", 'Such as `{"model": "gpt-5-mini"}`, or `filterGroupBy[model]=gpt-5-mini`.'),
    ],
    "responses": {
        (200, "application/json"): _REPLY,
        400: OpenApiResponse(description="A parameter is wrong; MINUTE windows are not kept."),
        404: OpenApiResponse(description="No such meter, subject or project."),
    },
    "examples": [OpenApiExample("By model", _SAMPLE_REPLY, response_only=True, status_codes=["200"])],
}
