import json
from datetime import UTC, datetime
from decimal import Decimal
from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metering.drafts import Draft, Refusal
from metering.formats.litellm import decode_body, decode_record
from metering.models.events import RejectionReason

KEY = "a" * 64
# The usage blocks that LiteLLM 1.106 makes of each provider's own, for 40 uncached, 60 cached and, where the provider
# has such a thing, 20 written input tokens, and 30 output tokens of which 10 are reasoning.
DETAILS = {"cached_tokens": 60, "cache_write_tokens": 20, "cache_creation_tokens": 20, "audio_tokens": None}
REASONED = {"reasoning_tokens": 10, "audio_tokens": None}
USAGE = {
    "openai_chat": {"prompt_tokens_details": DETAILS, "completion_tokens_details": REASONED},
    "openai_responses": {
        "input_tokens": 120,
        "output_tokens": 30,
        "input_tokens_details": DETAILS,
        "output_tokens_details": REASONED,
    },
    "anthropic": {
        "prompt_tokens_details": DETAILS | {"text_tokens": 40},
        "completion_tokens_details": REASONED | {"text_tokens": 20},
        "cache_creation_input_tokens": 20,
        "cache_read_input_tokens": 60,
    },
    "bedrock": {
        "prompt_tokens_details": {"cached_tokens": None, "text_tokens": 40},
        "completion_tokens_details": REASONED,
        "cache_creation_input_tokens": 20,
        "cache_read_input_tokens": 60,
    },
    "gemini": {
        "prompt_tokens_details": {"cached_tokens": 60, "text_tokens": 60},
        "completion_tokens_details": REASONED | {"text_tokens": 20},
        "cache_read_input_tokens": 60,
    },
    "deepseek": {
        "prompt_tokens_details": None,
        "completion_tokens_details": REASONED,
        "prompt_cache_hit_tokens": 60,
        "prompt_cache_miss_tokens": 60,
    },
}
WITHOUT_CACHE_WRITES = {"gemini", "deepseek"}
SECRETS = {
    "messages": [{"role": "user", "content": "a secret prompt"}],
    "response": {"choices": [{"message": {"content": "a secret answer"}}]},
    "model_parameters": {"api_key": "sk-upstream-secret", "temperature": 1},
    "hidden_params": {"additional_headers": {"authorization": "Bearer secret"}},
    "error_str": "a secret error",
    "requester_ip_address": "203.0.113.9",
}


def record(**changes):
    members = {
        "id": "chatcmpl-1",
        "litellm_call_id": "call-1",
        "status": "success",
        "stream": False,
        "cache_hit": None,
        "call_type": "acompletion",
        "custom_llm_provider": "openai",
        "model": "gpt-5-mini",
        "model_group": "gpt-5-mini",
        "startTime": 1794743998.5,
        "endTime": 1794744000.123457,
        "prompt_tokens": 100,
        "completion_tokens": 20,
        "total_tokens": 120,
        "response_cost": 2.25e-05,
        "end_user": "customer-7",
        "metadata": {"user_api_key_hash": KEY, "user_api_key_alias": "x", "usage_object": None},
    } | SECRETS
    return members | changes


def draft(**changes):
    return decode_record(json.dumps(record(**changes)).encode())


def test_a_record_becomes_an_event():
    made = draft()
    assert (made.source, made.event_id, made.type, made.subject) == ("litellm", "call-1", "ai.usage", KEY)
    assert made.time == datetime(2026, 11, 15, 12, 0, 0, 123457, tzinfo=UTC)
    assert made.data == {
        "model": "gpt-5-mini",
        "provider": "openai",
        "call_type": "acompletion",
        "end_user": "customer-7",
        "response_id": "chatcmpl-1",
        "reported_cost": Decimal("0.0000225"),
        "input_tokens": 100,
        "output_tokens": 20,
    }
    assert json.loads(made.raw_data)["reported_cost"] == 2.25e-05


def test_a_model_goes_by_its_own_name_and_its_public_one_stands_beside_it():
    assert draft(model="openai/gpt-5-mini").data["model"] == "gpt-5-mini"
    assert "model_group" not in draft(model="openai/gpt-5-mini").data
    aliased = draft(model="openai/gpt-5-mini", model_group="fast").data
    assert (aliased["model"], aliased["model_group"]) == ("gpt-5-mini", "fast")


@pytest.mark.parametrize("provider", USAGE)
def test_six_providers_come_to_the_same_pools(provider):
    wrote = 0 if provider in WITHOUT_CACHE_WRITES else 20
    usage = {"prompt_tokens": 100 + wrote, "completion_tokens": 30} | USAGE[provider]
    made = draft(
        prompt_tokens=100 + wrote,
        completion_tokens=30,
        metadata={"user_api_key_hash": KEY, "usage_object": usage},
    )
    pools = {name: value for name, value in made.data.items() if name.endswith("_tokens")}
    expected = {"input_tokens": 40, "cache_read_tokens": 60, "output_tokens": 30, "reasoning_tokens": 10}
    assert pools == expected | ({"cache_write_tokens": 20} if wrote else {})
    assert "flags" not in made.data


def test_a_contradiction_is_flagged_and_the_reported_numbers_are_kept():
    made = draft(
        metadata={"user_api_key_hash": KEY, "usage_object": {"prompt_tokens_details": {"cached_tokens": 300}}},
    )
    assert made.data["flags"] == ["cache_exceeds_input"]
    assert made.data["input_tokens"] == 0
    assert made.data["reported"] == {"input": 100, "cache_read": 300, "output": 20}


@pytest.mark.parametrize("stream", [True, False, None])
def test_a_call_whose_usage_was_not_told_is_unmetered_never_zero(stream):
    made = draft(stream=stream, prompt_tokens=0, completion_tokens=0)
    assert (made.type, made.data["metering"]) == ("ai.usage", "unmetered")
    assert not any(name.endswith("_tokens") for name in made.data)


def test_an_answer_from_the_gateways_own_cache_used_no_model():
    made = draft(cache_hit=True, response_cost=0.0)
    assert made.data["gateway_cache_hit"] is True
    assert made.data["gateway_cache_input_tokens"] == 100
    assert "input_tokens" not in made.data
    assert made.data["reported_cost"] == 0


def test_a_failed_call_without_tokens_feeds_no_meter_and_leaves_the_id_to_the_retry():
    failed = draft(status="failure", prompt_tokens=0, completion_tokens=0, response_cost=0)
    assert (failed.type, failed.data["status"]) == ("ai.failure", "failure")
    assert failed.event_id == "call-1:failed:1794743998.5"
    assert draft().event_id == "call-1"


def test_a_failed_call_that_used_tokens_is_usage():
    failed = draft(status="failure")
    assert (failed.type, failed.data["input_tokens"]) == ("ai.usage", 100)


def test_a_raw_key_is_hashed_and_never_kept():
    for raw in ("sk-kt-live-secret", "im_abc", "A" * 64):
        made = draft(metadata={"user_api_key_hash": raw, "usage_object": None})
        assert made.subject == sha256(raw.encode()).hexdigest()
        assert raw.encode() not in made.raw_data


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"prompt_tokens": -5},
        {"endTime": "yesterday"},
        {"metadata": {"user_api_key_hash": "sk-kt-live-secret", "usage_object": {"prompt_tokens": "many"}}},
        {"metadata": None},
        {"metadata": "a secret prompt"},
        {"litellm_call_id": None, "id": None},
        {"model": {"content": "a secret prompt"}, "endTime": []},
    ],
)
def test_prompts_answers_and_credentials_never_get_through(changes):
    made = draft(**changes)
    kept = repr(made).lower()
    assert "secret" not in kept
    assert "203.0.113.9" not in kept


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"prompt_tokens": -5}, RejectionReason.INVALID_VALUE),
        ({"prompt_tokens": "many"}, RejectionReason.INVALID_VALUE),
        ({"endTime": "2026-11-15"}, RejectionReason.INVALID_EVENT),
        ({"endTime": 1e300}, RejectionReason.INVALID_EVENT),
        ({"litellm_call_id": None, "id": None}, RejectionReason.INVALID_EVENT),
        ({"metadata": {}}, RejectionReason.UNKNOWN_SUBJECT),
    ],
)
def test_what_cannot_be_an_event_is_refused_with_its_numbers(changes, reason):
    refusal = draft(**changes)
    assert isinstance(refusal, Refusal)
    assert refusal.reason == reason
    assert b'"completion_tokens":20' in refusal.body or b'"output_tokens":20' in refusal.body


def test_the_response_id_stands_in_for_a_missing_call_id_with_the_start():
    assert draft(litellm_call_id=None).event_id == "chatcmpl-1@1794743998.5"


def test_a_call_id_that_is_too_long_is_known_by_its_digest():
    assert draft(litellm_call_id="x" * 300).event_id == sha256(b"x" * 300).hexdigest()


def encoded(format, *records):
    if format == "json_array":
        return json.dumps(records).encode()
    return "\n".join(json.dumps(record) for record in records).encode()


@pytest.mark.parametrize("format", ["json_array", "ndjson"])
def test_batches_come_as_an_array_or_as_lines(format):
    records = [record(litellm_call_id=str(number)) for number in range(3)]
    assert [made.event_id for made in decode_body(encoded(format, *records))] == ["0", "1", "2"]


def test_a_single_record_may_be_spread_over_lines():
    assert [made.event_id for made in decode_body(json.dumps(record(), indent=2).encode())] == ["call-1"]
    assert list(decode_body(b" \n")) == []
    assert list(decode_body(b"[]")) == []


@pytest.mark.parametrize("oddity", ["NaN", "-Infinity", '"\\ud83d"', "1e999999999999999999999", "9" * 5000])
@pytest.mark.parametrize("format", ["json_array", "ndjson"])
def test_oddities_in_an_answer_spoil_neither_their_record_nor_its_neighbours(format, oddity):
    body = encoded(format, record(litellm_call_id="odd", response="ODD"), record())
    made = list(decode_body(body.replace(b'"ODD"', oddity.encode())))
    assert [(type(each), each.event_id) for each in made] == [(Draft, "odd"), (Draft, "call-1")]


def test_what_follows_a_broken_record_is_kept_as_one_refusal_without_its_text():
    whole = encoded("json_array", record(), record(litellm_call_id="cut"))
    first, rest = decode_body(whole[:-40])
    assert first.event_id == "call-1"
    assert isinstance(rest, Refusal)
    assert "secret" not in repr(rest)
    assert json.loads(rest.body)["unreadable_bytes"] > 0


def test_a_broken_line_spoils_only_itself():
    lines = [json.dumps(record()).encode(), b'{"messages": "a secret prompt"', json.dumps(record()).encode()]
    made = list(decode_body(b"\n".join(lines)))
    assert [type(each) for each in made] == [Draft, Refusal, Draft]
    assert "secret" not in repr(made)


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
NAMES = st.sampled_from(sorted(record()))
METADATA = st.fixed_dictionaries(
    {},
    optional={
        "user_api_key_hash": ANYTHING,
        "usage_object": ANYTHING | st.fixed_dictionaries({"prompt_tokens_details": ANYTHING, "input_tokens": ANYTHING}),
    },
)
RECORDS = st.builds(
    lambda changes, metadata: record() | changes | {"metadata": metadata},
    st.dictionaries(NAMES, ANYTHING, max_size=6),
    METADATA | ANYTHING,
)


NO_LISTS = ANYTHING.filter(lambda value: not isinstance(value, list))


@given(st.lists(RECORDS | NO_LISTS, min_size=1, max_size=4), st.sampled_from(["json_array", "ndjson"]))
def test_every_record_comes_out_as_a_draft_or_a_refusal(records, format):
    made = list(decode_body(encoded(format, *records)))
    assert len(made) == len(records)
    for each in made:
        assert isinstance(each, (Draft, Refusal))
        if isinstance(each, Draft):
            assert 0 < len(each.event_id) <= 255
            assert 0 < len(each.subject) <= 255
            assert "\x00" not in repr(each.data)


@given(st.binary())
def test_no_body_is_too_strange(body):
    assert all(isinstance(each, (Draft, Refusal)) for each in decode_body(body))
    assert list(decode_body(body)) or not body.removeprefix(b"\xef\xbb\xbf").strip()
