"""OTLP traces over HTTP, protobuf and JSON: bytes to spans, and the answer in the same encoding.

https://opentelemetry.io/docs/specs/otlp/#otlphttp. What the spans mean is `metering.formats.gen_ai`'s to say. Of
attributes only those it knows are kept: prompts and answers never leave this module. Protobuf is imported with the
first body that needs it, since many installations never see one.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import msgspec

from accounts.errors import DomainError
from metering.drafts import Refusal
from metering.formats import lenient_json
from metering.formats.ai_calls import unreadable

PROTOBUF = "application/x-protobuf"
JSON = "application/json"
Scalar = str | int | Decimal | bool
_ERROR = 2
_TRACE_ID = re.compile(r"(?!0{32})[0-9a-f]{32}")
_SPAN_ID = re.compile(r"(?!0{16})[0-9a-f]{16}")


class Undecodable(DomainError):
    code = "malformed_otlp"
    sentence = "The body is not an OTLP trace export in the encoding that Content-Type names, so nothing was kept."


@dataclass(frozen=True, slots=True)
class Span:
    """One span; ids in hexadecimal, `parent_id` empty at the root."""

    trace_id: str
    span_id: str
    parent_id: str
    # Since 1970; 0: unknown.
    end_nanoseconds: int
    has_failed: bool
    attributes: Mapping[str, Scalar]
    resource: Mapping[str, Scalar]


def decode(body: bytes, media_type: str, known: frozenset[str]) -> Iterator[Span | Refusal]:
    """The spans of a body with the attributes that are known; Undecodable if it is none."""
    return _from_json(body, known) if media_type == JSON else _from_protobuf(body, known)


def encode_reply(rejected: int, message: str, media_type: str) -> bytes:
    """An ExportTraceServiceResponse; full success has no partial_success."""
    if media_type == JSON:
        partial = {"rejectedSpans": str(rejected), "errorMessage": message}
        return msgspec.json.encode({"partialSuccess": partial} if rejected else {})
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

    reply = ExportTraceServiceResponse()
    if rejected:
        reply.partial_success.rejected_spans = rejected
        reply.partial_success.error_message = message
    return reply.SerializeToString()


# --- Protobuf ---------------------------------------------------------------------------------------------------------


def _from_protobuf(body: bytes, known: frozenset[str]) -> Iterator[Span | Refusal]:
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    try:
        request = ExportTraceServiceRequest.FromString(body)
    except DecodeError as error:
        raise Undecodable from error
    for resource_spans in request.resource_spans:
        resource = _attributes(_pairs(resource_spans.resource.attributes), known)
        for scope_spans in resource_spans.scope_spans:
            for span in scope_spans.spans:
                yield _checked(
                    trace_id=span.trace_id.hex(),
                    span_id=span.span_id.hex(),
                    parent_id=span.parent_span_id.hex(),
                    end_nanoseconds=span.end_time_unix_nano or span.start_time_unix_nano,
                    has_failed=span.status.code == _ERROR,
                    attributes=_attributes(_pairs(span.attributes), known),
                    resource=resource,
                )


def _pairs(attributes: Iterable[Any]) -> Iterator[tuple[str, Any]]:
    for attribute in attributes:
        kind = attribute.value.WhichOneof("value")
        if kind in {"string_value", "bool_value", "int_value", "double_value"}:
            yield attribute.key, getattr(attribute.value, kind)


# --- JSON -------------------------------------------------------------------------------------------------------------


def _from_json(body: bytes, known: frozenset[str]) -> Iterator[Span | Refusal]:
    try:
        request = lenient_json.decode(body)
    except ValueError as error:
        raise Undecodable from error
    if not isinstance(request, dict) or not isinstance(request.get("resourceSpans", []), list):
        raise Undecodable
    for resource_spans in _objects(request, "resourceSpans"):
        resource = _attributes(_json_pairs(_object(resource_spans, "resource")), known)
        for scope_spans in _objects(resource_spans, "scopeSpans"):
            for span in _list(scope_spans, "spans"):
                yield _json_span(span, resource, known)


def _json_span(span: Any, resource: Mapping[str, Scalar], known: frozenset[str]) -> Span | Refusal:
    if not isinstance(span, dict):
        return unreadable(repr(span).encode("utf-8", "replace"), "It is not a span.")
    return _checked(
        trace_id=str(span.get("traceId", "")).lower(),
        span_id=str(span.get("spanId", "")).lower(),
        parent_id=str(span.get("parentSpanId") or "").lower(),
        end_nanoseconds=_nanoseconds(span.get("endTimeUnixNano")) or _nanoseconds(span.get("startTimeUnixNano")),
        has_failed=_object(span, "status").get("code") in (_ERROR, "STATUS_CODE_ERROR"),
        attributes=_attributes(_json_pairs(span), known),
        resource=resource,
    )


def _json_pairs(owner: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    for attribute in _objects(owner, "attributes"):
        value = _object(attribute, "value")
        for kind in ("stringValue", "boolValue", "intValue", "doubleValue"):
            if value.get(kind) is not None:
                yield str(attribute.get("key")), value[kind]


def _nanoseconds(value: Any) -> int:
    """64-bit numbers are texts in OTLP's JSON, and numbers from those who do not care."""
    if isinstance(value, str) and value.isascii() and value.isdigit():
        value = int(value[:30])
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else 0


def _object(owner: dict[str, Any], name: str) -> dict[str, Any]:
    value = owner.get(name)
    return value if isinstance(value, dict) else {}


def _list(owner: dict[str, Any], name: str) -> list[Any]:
    value = owner.get(name)
    return value if isinstance(value, list) else []


def _objects(owner: dict[str, Any], name: str) -> Iterator[dict[str, Any]]:
    return (value for value in _list(owner, name) if isinstance(value, dict))


# --- Both -------------------------------------------------------------------------------------------------------------


def _attributes(pairs: Iterable[tuple[str, Any]], known: frozenset[str]) -> dict[str, Scalar]:
    kept: dict[str, Scalar] = {}
    for name, value in pairs:
        if name in known and isinstance(value, (str, int, float, Decimal)):
            kept[name] = Decimal(repr(value)) if isinstance(value, float) else value
    return kept


def _checked(*, trace_id: str, span_id: str, **members: Any) -> Span | Refusal:
    if _TRACE_ID.fullmatch(trace_id) and _SPAN_ID.fullmatch(span_id):
        return Span(trace_id=trace_id, span_id=span_id, **members)
    names = f"trace id {trace_id[:40]!r} and span id {span_id[:40]!r}"
    return unreadable(repr((trace_id, span_id, members)).encode("utf-8", "replace"), f"Its {names} identify nothing.")
