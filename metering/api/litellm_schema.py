"""How the OpenAPI document describes POST /v1/litellm."""

from typing import Any

from drf_spectacular.utils import OpenApiExample, OpenApiResponse

from metering.api.events_schema import REPLY

_RECORD: dict[str, Any] = {
    "type": "object",
    "title": "LiteLLM call record",
    "description": "A StandardLoggingPayload. Fields that are not listed here are dropped on arrival, never stored.",
    "properties": {
        "litellm_call_id": {"type": "string", "description": "The event's id."},
        "status": {"type": "string", "enum": ["success", "failure"]},
        "stream": {"type": "boolean", "nullable": True},
        "cache_hit": {"type": "boolean", "nullable": True},
        "call_type": {"type": "string"},
        "custom_llm_provider": {"type": "string", "nullable": True},
        "model": {"type": "string"},
        "model_group": {"type": "string", "nullable": True},
        "startTime": {"type": "number", "description": "Seconds since 1970."},
        "endTime": {"type": "number", "description": "Seconds since 1970: the event's time."},
        "prompt_tokens": {"type": "integer", "description": "Cache reads and writes included."},
        "completion_tokens": {"type": "integer", "description": "Reasoning included."},
        "response_cost": {"type": "number", "description": "US dollars; kept as `reported_cost`, never billed."},
        "end_user": {"type": "string", "nullable": True},
        "metadata": {
            "type": "object",
            "properties": {
                "user_api_key_hash": {"type": "string", "description": "The SHA-256 of the API key: whose call it is."},
                "usage_object": {"type": "object", "additionalProperties": True},
            },
            "additionalProperties": True,
        },
    },
    "additionalProperties": True,
}
_SAMPLE = {
    "litellm_call_id": "0f5c8d2e-6a1b-4f57-9c3e-2f4f1f7a9b10",
    "status": "success",
    "call_type": "acompletion",
    "custom_llm_provider": "openai",
    "model": "gpt-5-mini",
    "endTime": 1794744000.25,
    "prompt_tokens": 1500,
    "completion_tokens": 85,
    "response_cost": 0.00047,
    "metadata": {
        "user_api_key_hash": "6f1ed002ab5595859014ebf0951522d9a4f8a4b8f3c2d1e0f9a8b7c6d5e4f3a2",
        "usage_object": {"prompt_tokens_details": {"cached_tokens": 300}},
    },
}
_SAMPLE_REPLY = {
    "accepted": 1,
    "duplicates": 0,
    "conflicts": 0,
    "rejected": 0,
    "truncated": False,
    "events": [
        {
            "source": "litellm",
            "id": "0f5c8d2e-6a1b-4f57-9c3e-2f4f1f7a9b10",
            "verdict": "accepted",
            "meters": ["input_tokens", "cache_read_tokens", "output_tokens", "requests"],
            "reason": None,
            "detail": None,
            "time_assumed": False,
        }
    ],
}
_DESCRIPTION = """
The target of LiteLLM's `generic_api` callback, in its three formats (`json_array`, `ndjson`, `single`). Set

    GENERIC_LOGGER_ENDPOINT=https://…/v1/litellm
    GENERIC_LOGGER_HEADERS="Authorization=Bearer kt-service-…"

and `callbacks: ["generic_api"]`. Prompts, answers, parameters and credentials are dropped on arrival. Token counts are
taken apart into exclusive pools; contradictions are flagged in the event's `flags`; a call whose usage was not told
(streams without `include_usage`) is kept with `"metering": "unmetered"` and no token counts. A failed call without
tokens becomes an `ai.failure` event, which feeds no meter. Whatever arrives is kept and answered with 200.
"""

POST: dict[str, Any] = {
    "operation_id": "send_litellm_records",
    "summary": "Send usage from LiteLLM",
    "description": _DESCRIPTION,
    "tags": ["Events"],
    "request": {"application/json": {"oneOf": [_RECORD, {"type": "array", "items": _RECORD}]}},
    "responses": {
        (200, "application/json"): REPLY,
        413: OpenApiResponse(description="A body over 256 MiB."),
        503: OpenApiResponse(description="The database did not answer. LiteLLM tries again if told `max_retries`."),
    },
    "examples": [
        OpenApiExample("One record", _SAMPLE, request_only=True),
        OpenApiExample("Accepted", _SAMPLE_REPLY, response_only=True, status_codes=["200"]),
    ],
}
