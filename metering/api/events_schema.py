"""How the OpenAPI document describes POST /v1/events."""

from typing import Any

from drf_spectacular.utils import OpenApiExample, OpenApiResponse

_TEXT = {"type": "string", "minLength": 1, "maxLength": 255}
_EVENT: dict[str, Any] = {
    "type": "object",
    "title": "CloudEvent",
    "required": ["specversion", "id", "source", "type", "subject"],
    "properties": {
        "specversion": {"type": "string", "enum": ["1.0"]},
        "id": _TEXT | {"description": "Unique within the source: with it the event's identity, whatever its time."},
        "source": _TEXT | {"description": "The sending system."},
        "type": _TEXT | {"description": "What meters read: `ai.usage` for the meters of generative AI."},
        "subject": _TEXT
        | {"description": "The API key's id (`key_…`), the SHA-256 of the key in hexadecimal, or `org_…`."},
        "time": {"type": "string", "format": "date-time", "description": "The time of receipt if left out."},
        "datacontenttype": {"type": "string", "description": "JSON, or left out."},
        "data": {"type": "object", "additionalProperties": True, "description": "At most 64 KiB with the envelope."},
    },
    "additionalProperties": True,
}
_VERDICT: dict[str, Any] = {
    "type": "object",
    "required": ["source", "id", "verdict", "meters", "reason", "detail", "time_assumed"],
    "properties": {
        "source": {"type": "string"},
        "id": {"type": "string"},
        "verdict": {"type": "string", "enum": ["accepted", "duplicate", "conflict", "rejected"]},
        "meters": {
            "type": "array",
            "items": {"type": "string"},
            "description": "Meters that an accepted event feeds; none: it is kept and matched nothing.",
        },
        "reason": {"type": "string", "nullable": True},
        "detail": {"type": "string", "nullable": True, "description": "What to do about it."},
        "time_assumed": {"type": "boolean", "description": "The time of receipt stands in."},
    },
}
_COUNT = {"type": "integer", "minimum": 0}
REPLY: dict[str, Any] = {
    "type": "object",
    "required": ["accepted", "duplicates", "conflicts", "rejected", "truncated", "events"],
    "properties": {
        "accepted": _COUNT,
        "duplicates": _COUNT,
        "conflicts": _COUNT,
        "rejected": _COUNT,
        "truncated": {"type": "boolean", "description": "Verdicts were left out of `events`."},
        "events": {"type": "array", "items": _VERDICT},
    },
}

_SAMPLE = {
    "specversion": "1.0",
    "id": "req_8f2a",
    "source": "gateway",
    "type": "ai.usage",
    "subject": "key_7k2mq9xw4v8hn3tbd5rc",
    "time": "2026-11-15T12:00:00Z",
    "data": {"model": "gpt-5-mini", "input_tokens": 1200, "cache_read_tokens": 300, "output_tokens": 85},
}
_SAMPLE_REPLY = {
    "accepted": 1,
    "duplicates": 0,
    "conflicts": 0,
    "rejected": 0,
    "truncated": False,
    "events": [
        {
            "source": "gateway",
            "id": "req_8f2a",
            "verdict": "accepted",
            "meters": ["input_tokens", "cache_read_tokens", "output_tokens", "requests"],
            "reason": None,
            "detail": None,
            "time_assumed": False,
        }
    ],
}
_DESCRIPTION = """
Takes CloudEvents 1.0: one, an array, one per line as NDJSON of any length, or one in binary mode (attributes as
`ce-…` headers, data as the body); plain or gzip. Everything is committed
before the answer, so a body can always be sent again whole: an event is counted once per organisation, source and id.

The answer is 200 for all that could be kept, with a verdict per event in the order sent. `conflict` (same source and
id, another body) and `rejected` events are kept aside for the operator. Past 10,000 events only conflicts and
rejections are listed, 20,000 verdicts at most, and `truncated` is true. Large bodies are committed in steps of 1,000
events; if one breaks off, the problem says how many were kept.
"""
_BATCH = {"type": "array", "items": _EVENT}
_LINES = {"type": "string", "description": "One CloudEvent per line."}

POST: dict[str, Any] = {
    "operation_id": "send_events",
    "summary": "Send usage events",
    "description": _DESCRIPTION,
    "tags": ["Events"],
    "request": {
        "application/cloudevents+json": _EVENT,
        "application/cloudevents-batch+json": _BATCH,
        "application/json": {"oneOf": [_EVENT, _BATCH]},
        "application/x-ndjson": _LINES,
    },
    "responses": {
        (200, "application/json"): REPLY,
        400: OpenApiResponse(description="Not JSON at all, not gzip, or broken off."),
        413: OpenApiResponse(description="A JSON body over 32 MiB: send NDJSON."),
        415: OpenApiResponse(description="Another media type or encoding."),
        503: OpenApiResponse(description="The database did not answer: send the same again."),
    },
    "examples": [
        OpenApiExample("One event", _SAMPLE, request_only=True, media_type="application/cloudevents+json"),
        OpenApiExample("A batch", [_SAMPLE], request_only=True, media_type="application/cloudevents-batch+json"),
        OpenApiExample("Accepted", _SAMPLE_REPLY, response_only=True, status_codes=["200"]),
    ],
}
