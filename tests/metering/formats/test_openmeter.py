import json
from decimal import Decimal
from hashlib import sha256

from hypothesis import given
from hypothesis import strategies as st

from metering.drafts import Draft, Refusal
from metering.formats.cloudevents import decode_event
from metering.formats.openmeter import in_our_words
from metering.models.events import RejectionReason

# As LiteLLM 1.106 sends it.
EVENT = {
    "specversion": "1.0",
    "type": "litellm_tokens",
    "id": "chatcmpl-1",
    "time": "2026-11-15T12:00:00.000001+00:00",
    "subject": "key_1",
    "source": "litellm-proxy",
    "data": {"model": "gpt-5-mini", "cost": 2.25e-05, "prompt_tokens": 100, "completion_tokens": 20},
}


def made(**changes):
    (draft,) = in_our_words([decode_event(json.dumps(EVENT | changes).encode())])
    return draft


def test_litellms_words_become_ours():
    draft = made()
    assert (draft.source, draft.event_id, draft.type) == ("litellm-proxy", "chatcmpl-1", "ai.usage")
    assert draft.data == {
        "model": "gpt-5-mini",
        "reported_cost": Decimal("0.0000225"),
        "input_tokens": 100,
        "output_tokens": 20,
        "flags": ["cache_unknown"],
    }


def test_a_call_without_usage_is_unmetered():
    draft = made(data={"model": "gpt-5-mini", "cost": 0})
    assert draft.data == {"model": "gpt-5-mini", "reported_cost": 0, "metering": "unmetered"}


def test_impossible_counts_are_refused():
    refusal = made(data={"prompt_tokens": -1})
    assert isinstance(refusal, Refusal)
    assert (refusal.reason, refusal.event_id) == (RejectionReason.INVALID_VALUE, "chatcmpl-1")


def test_other_types_are_taken_as_they_are():
    draft = made(type="workflow.done", data={"prompt_tokens": -1, "anything": [1]})
    assert (draft.type, draft.data) == ("workflow.done", {"prompt_tokens": -1, "anything": [1]})


def test_a_key_as_the_subject_is_hashed_whatever_the_type():
    for type in ("litellm_tokens", "other"):
        draft = made(type=type, subject="sk-kt-live-secret")
        assert draft.subject == sha256(b"sk-kt-live-secret").hexdigest()
        assert "secret" not in repr(draft)


DATA = st.dictionaries(
    st.sampled_from(["model", "cost", "prompt_tokens", "completion_tokens", "x"]),
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
)


@given(DATA, st.sampled_from(["litellm_tokens", "other"]), st.text(min_size=1))
def test_every_event_comes_out_as_a_draft_or_a_refusal(data, type, subject):
    assert isinstance(made(data=data, type=type, subject=subject), (Draft, Refusal))
