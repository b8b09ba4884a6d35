"""How the OpenAPI document describes POST /v1/otlp/v1/traces."""

from typing import Any

from drf_spectacular.utils import OpenApiExample, OpenApiResponse

_REQUEST: dict[str, Any] = {
    "type": "object",
    "title": "ExportTraceServiceRequest",
    "properties": {"resourceSpans": {"type": "array", "items": {"type": "object", "additionalProperties": True}}},
    "additionalProperties": True,
}
_REPLY: dict[str, Any] = {
    "type": "object",
    "title": "ExportTraceServiceResponse",
    "properties": {
        "partialSuccess": {
            "type": "object",
            "properties": {
                "rejectedSpans": {"type": "string", "description": "A 64-bit number as text."},
                "errorMessage": {"type": "string"},
            },
        }
    },
}
_SAMPLE = {
    "resourceSpans": [
        {
            "resource": {
                "attributes": [
                    {"key": "service.name", "value": {"stringValue": "assistant"}},
                    {"key": "kilotoken.subject", "value": {"stringValue": "key_7k2mq9xw4v8hn3tbd5rc"}},
                ]
            },
            "scopeSpans": [
                {
                    "spans": [
                        {
                            "traceId": "5b8efff798038103d269b633813fc60c",
                            "spanId": "eee19b7ec3c1b174",
                            "name": "chat gpt-5-mini",
                            "endTimeUnixNano": "1794744000123456000",
                            "attributes": [
                                {"key": "gen_ai.operation.name", "value": {"stringValue": "chat"}},
                                {"key": "gen_ai.response.model", "value": {"stringValue": "gpt-5-mini"}},
                                {"key": "gen_ai.usage.input_tokens", "value": {"intValue": "1500"}},
                                {"key": "gen_ai.usage.output_tokens", "value": {"intValue": "85"}},
                            ],
                        }
                    ]
                }
            ],
        }
    ]
}
_DESCRIPTION = """
The target of OpenTelemetry's trace exporters, in protobuf or JSON, plain or gzip. Set

    OTEL_EXPORTER_OTLP_ENDPOINT=https://…/v1/otlp
    OTEL_EXPORTER_OTLP_HEADERS="Authorization=Bearer kt-service-…"
    OTEL_RESOURCE_ATTRIBUTES="kilotoken.subject=key_…"

Every span of a call to a model (`gen_ai.operation.name` chat, text_completion, generate_content, embeddings and their
older names; OpenInference and OpenLLMetry too) becomes one `ai.usage` event with the id `<trace id>-<span id>` and the
source `otlp:<service.name>`. Whose call it was is read from `kilotoken.subject` (an id) or `kilotoken.api_key_hash`
(the key's SHA-256), on the span or its resource; with an organisation's token it is that organisation's. Of nested
calls the innermost that knows its usage counts; other spans are passed over. A call without usage (streams without
`include_usage`) is kept as `"metering": "unmetered"`. Prompts and answers are dropped on arrival.
"""

POST: dict[str, Any] = {
    "operation_id": "send_traces",
    "summary": "Send usage as OpenTelemetry traces",
    "description": _DESCRIPTION,
    "tags": ["Events"],
    "request": {"application/json": _REQUEST, "application/x-protobuf": {"type": "string", "format": "binary"}},
    "responses": {
        (200, "application/json"): _REPLY,
        (200, "application/x-protobuf"): {"type": "string", "format": "binary"},
        400: OpenApiResponse(description="Not an OTLP trace export, not gzip, or broken off."),
        413: OpenApiResponse(description="A body over 32 MiB."),
        415: OpenApiResponse(description="Another media type or encoding."),
        503: OpenApiResponse(description="The database did not answer: exporters send the same again."),
    },
    "examples": [
        OpenApiExample("One call", _SAMPLE, request_only=True, media_type="application/json"),
        OpenApiExample("Everything kept", {}, response_only=True, status_codes=["200"], media_type="application/json"),
    ],
}
