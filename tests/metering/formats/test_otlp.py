import base64
import json
from datetime import UTC, datetime
from decimal import Decimal
from hashlib import sha256

import pytest
from google.protobuf import json_format
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

from metering.drafts import Draft, Refusal
from metering.formats import gen_ai, otlp
from metering.formats.otlp import JSON, PROTOBUF
from metering.models.events import RejectionReason

TRACE = "5b8efff798038103d269b633813fc60c"
# 60 of 120 input tokens read from cache and 20 written to it; 10 of 30 output tokens are reasoning.
EMITTERS = {
    "current": {
        "gen_ai.operation.name": "chat",
        "gen_ai.usage.input_tokens": 120,
        "gen_ai.usage.cache_read.input_tokens": 60,
        "gen_ai.usage.cache_write.input_tokens": 20,
        "gen_ai.usage.output_tokens": 30,
        "gen_ai.usage.reasoning.output_tokens": 10,
    },
    "semconv 0.66": {
        "gen_ai.operation.name": "generate_content",
        "gen_ai.usage.input_tokens": "120",
        "gen_ai.usage.cache_read.input_tokens": "60",
        "gen_ai.usage.cache_creation.input_tokens": 20.0,
        "gen_ai.usage.output_tokens": 30.0,
        "gen_ai.usage.reasoning.output_tokens": 10,
    },
    "OpenLLMetry": {
        "llm.request.type": "chat",
        "gen_ai.usage.prompt_tokens": 120,
        "gen_ai.usage.cache_read_input_tokens": 60,
        "gen_ai.usage.cache_creation_input_tokens": 20,
        "gen_ai.usage.completion_tokens": 30,
        "gen_ai.usage.reasoning_tokens": 10,
    },
    "OpenInference": {
        "openinference.span.kind": "LLM",
        "llm.token_count.prompt": 120,
        "llm.token_count.prompt_details.cache_read": 60,
        "llm.token_count.prompt_details.cache_write": 20,
        "llm.token_count.completion": 30,
        "llm.token_count.completion_details.reasoning": 10,
    },
}
CALL = EMITTERS["current"]


def value(plain):
    kinds = {bool: "boolValue", int: "intValue", float: "doubleValue", str: "stringValue"}
    kind = kinds[type(plain)]
    return {kind: str(plain) if kind == "intValue" else plain}


def attributes(plain):
    return [{"key": name, "value": value(each)} for name, each in plain.items()]


def span(number=1, parent=0, plain=CALL, **changes):
    members = {
        "traceId": TRACE,
        "spanId": f"{number:016x}",
        "parentSpanId": f"{parent:016x}" if parent else "",
        "name": "chat",
        "endTimeUnixNano": "1794744000123456789",
        "attributes": attributes({"kilotoken.subject": "key_1", "gen_ai.prompt.0.content": "a secret"} | plain),
    }
    return members | changes


def export(*spans, resource=None):
    resource = attributes({"service.name": "assistant"} | (resource or {}))
    return {"resourceSpans": [{"resource": {"attributes": resource}, "scopeSpans": [{"spans": list(spans)}]}]}


def as_protobuf(request):
    """Protobuf's own JSON has ids in base64, OTLP's in hexadecimal."""
    text = json.loads(json.dumps(request))
    for each in text["resourceSpans"][0]["scopeSpans"][0]["spans"]:
        for name in ("traceId", "spanId", "parentSpanId"):
            each[name] = base64.b64encode(bytes.fromhex(each[name])).decode()
    return json_format.ParseDict(text, ExportTraceServiceRequest()).SerializeToString()


def drafts(request, media_type=JSON, own=""):
    body = json.dumps(request).encode() if media_type == JSON else as_protobuf(request)
    return list(gen_ai.drafts(otlp.decode(body, media_type, gen_ai.KNOWN), own=own))


@pytest.mark.parametrize("media_type", [JSON, PROTOBUF])
@pytest.mark.parametrize("emitter", EMITTERS)
def test_every_emitter_and_encoding_comes_to_the_same_pools(emitter, media_type):
    (made,) = drafts(export(span(plain=EMITTERS[emitter])), media_type)
    assert {name: count for name, count in made.data.items() if name.endswith("_tokens")} == {
        "input_tokens": 40,
        "cache_read_tokens": 60,
        "cache_write_tokens": 20,
        "output_tokens": 30,
        "reasoning_tokens": 10,
    }
    assert "flags" not in made.data


@pytest.mark.parametrize("media_type", [JSON, PROTOBUF])
def test_a_call_becomes_an_event(media_type):
    facts = {
        "gen_ai.request.model": "gpt-5-mini",
        "gen_ai.response.model": "gpt-5-mini-2026-01-01",
        "gen_ai.provider.name": "openai",
        "gen_ai.cost.total_cost": 0.25,
    }
    (made,) = drafts(export(span(plain=CALL | facts)), media_type)
    assert (made.source, made.event_id) == ("otlp:assistant", f"{TRACE}-0000000000000001")
    assert (made.type, made.subject) == ("ai.usage", "key_1")
    assert made.time == datetime(2026, 11, 15, 12, 0, 0, 123456, tzinfo=UTC)
    assert made.data["model"] == "gpt-5-mini-2026-01-01"
    assert made.data["requested_model"] == "gpt-5-mini"
    assert made.data["provider"] == "openai"
    assert made.data["reported_cost"] == Decimal("0.25")
    assert "secret" not in repr(made)


AGENT = CALL | {"gen_ai.operation.name": "invoke_agent"}
SILENT = {"gen_ai.operation.name": "chat"}
ORDINARY = {"http.request.method": "GET"}


@pytest.mark.parametrize(
    ("spans", "counted"),
    [
        ([span(1, plain=AGENT), span(2, 1)], [2]),
        ([span(1, plain=AGENT)], []),
        ([span(1), span(2, 1)], [2]),
        ([span(1), span(2, 1, plain=SILENT)], [1]),
        ([span(1, plain=SILENT), span(2, 1, plain=SILENT)], [2]),
        ([span(1, plain=SILENT), span(2, 1)], [2]),
        ([span(1, plain=AGENT), span(2, 1, plain=SILENT)], [2]),
        ([span(1), span(2, 1, plain=ORDINARY)], [1]),
        ([span(1, plain=ORDINARY)], []),
        ([span(1), span(2, 1, traceId="f" * 32)], [1, 2]),
    ],
)
def test_of_nested_calls_the_innermost_that_knows_its_usage_counts(spans, counted):
    made = drafts(export(*spans))
    assert [int(each.event_id[-16:]) for each in made] == counted


def test_a_stream_without_usage_is_unmetered_never_zero():
    (made,) = drafts(export(span(plain=SILENT)))
    assert made.data["metering"] == "unmetered"
    assert not any(name.endswith("_tokens") for name in made.data)


def test_a_zero_that_is_reported_is_a_zero():
    zero = {"gen_ai.usage.input_tokens": 0, "gen_ai.usage.output_tokens": 0}
    (made,) = drafts(export(span(plain=SILENT | zero)))
    assert (made.type, made.data["input_tokens"], made.data["output_tokens"]) == ("ai.usage", 0, 0)


def test_a_failed_call_without_tokens_feeds_no_meter():
    (made,) = drafts(export(span(plain=SILENT, status={"code": 2})))
    assert (made.type, made.data["status"]) == ("ai.failure", "failure")


def test_an_emitter_that_excludes_the_cache_is_understood_and_flagged():
    (made,) = drafts(export(span(plain=CALL | {"gen_ai.usage.input_tokens": 40})))
    assert (made.data["input_tokens"], made.data["cache_read_tokens"]) == (40, 60)
    assert made.data["flags"] == ["cache_exceeds_input"]


def test_the_subject_comes_from_the_span_or_its_resource_and_keys_are_hashed():
    def subject(on_span, on_resource):
        plain = {"kilotoken.subject": ""} | CALL | on_span
        return drafts(export(span(plain=plain), resource=on_resource))[0].subject

    assert subject({"kilotoken.subject": "key_2"}, {"kilotoken.subject": "key_3"}) == "key_2"
    assert subject({}, {"kilotoken.subject": "key_3"}) == "key_3"
    assert subject({"kilotoken.api_key_hash": "a" * 64}, {}) == "a" * 64
    assert subject({"kilotoken.api_key_hash": "sk-raw"}, {}) == sha256(b"sk-raw").hexdigest()
    assert subject({"kilotoken.subject": "sk-raw"}, {}) == sha256(b"sk-raw").hexdigest()
    assert subject({"metadata.user_api_key_hash": "b" * 64}, {}) == "b" * 64


def test_an_organisation_that_sends_for_itself_has_a_source_of_its_own():
    (made,) = drafts(export(span(plain=CALL | {"kilotoken.subject": ""})), own="org_1")
    assert (made.source, made.subject) == ("own:otlp:assistant", "org_1")


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        (span(traceId="0" * 32), RejectionReason.INVALID_EVENT),
        (span(spanId="xyz"), RejectionReason.INVALID_EVENT),
        (span(plain=CALL | {"gen_ai.usage.input_tokens": -1}), RejectionReason.INVALID_VALUE),
        (span(plain=CALL | {"gen_ai.operation.name": "do_magic"}), RejectionReason.INVALID_EVENT),
        (span(plain=CALL | {"kilotoken.subject": ""}), RejectionReason.UNKNOWN_SUBJECT),
        (span(endTimeUnixNano="9" * 29), RejectionReason.INVALID_EVENT),
        ("no span", RejectionReason.INVALID_EVENT),
    ],
)
def test_what_cannot_be_usage_is_refused_without_its_neighbours(changed, reason):
    made = drafts(export(changed, span(9)))
    refusals = [each for each in made if isinstance(each, Refusal)]
    assert [each.reason for each in refusals] == [reason]
    assert "secret" not in repr(refusals)
    assert sum(isinstance(each, Draft) for each in made) == 1


@pytest.mark.parametrize("media_type", [JSON, PROTOBUF])
@pytest.mark.parametrize("body", [b"hello", b"\xff\xff", b"[1]", b'{"resourceSpans": 1}'])
def test_a_body_that_is_no_export_is_undecodable(body, media_type):
    with pytest.raises(otlp.Undecodable):
        list(otlp.decode(body, media_type, gen_ai.KNOWN))


def test_the_reply_speaks_the_encoding_of_the_request():
    assert otlp.encode_reply(0, "", JSON) == b"{}"
    assert otlp.encode_reply(0, "", PROTOBUF) == b""
    assert json.loads(otlp.encode_reply(2, "why", JSON)) == {
        "partialSuccess": {"rejectedSpans": "2", "errorMessage": "why"}
    }
    reply = ExportTraceServiceResponse.FromString(otlp.encode_reply(2, "why", PROTOBUF))
    assert (reply.partial_success.rejected_spans, reply.partial_success.error_message) == (2, "why")


SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
ANYTHING = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
)
SPANS = st.builds(
    lambda changes, plain: span() | {"attributes": plain} | changes,
    st.dictionaries(st.sampled_from(sorted(span())), ANYTHING, max_size=3),
    st.lists(
        st.builds(
            lambda name, kind, each: {"key": name, "value": {kind: each}},
            st.sampled_from(sorted(gen_ai.KNOWN)),
            st.sampled_from(["stringValue", "intValue", "doubleValue", "boolValue", "arrayValue"]),
            ANYTHING,
        ),
        max_size=6,
    ),
)


@given(st.lists(SPANS | ANYTHING, max_size=4))
def test_no_span_is_too_strange(spans):
    made = drafts(export(*spans))
    assert len(made) <= len(spans)
    assert all(isinstance(each, (Draft, Refusal)) for each in made)


@given(st.lists(st.sampled_from([CALL, SILENT]), min_size=1, max_size=6))
def test_every_call_beside_others_is_an_event(kinds):
    made = drafts(export(*[span(number, plain=plain) for number, plain in enumerate(kinds, start=1)]))
    assert {each.event_id for each in made} == {f"{TRACE}-{number:016x}" for number in range(1, len(kinds) + 1)}


@given(st.binary(), st.sampled_from([JSON, PROTOBUF]))
def test_no_body_is_too_strange(body, media_type):
    try:
        made = list(gen_ai.drafts(otlp.decode(body, media_type, gen_ai.KNOWN)))
    except otlp.Undecodable:
        return
    assert all(isinstance(each, (Draft, Refusal)) for each in made)
