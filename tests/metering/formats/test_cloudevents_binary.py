from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metering.drafts import Draft, Refusal
from metering.formats.cloudevents_binary import decode_request

HEADERS = {
    "ce-specversion": "1.0",
    "ce-id": "1",
    "ce-source": "gate%20way%E2%82%AC",
    "ce-type": "ai.usage",
    "ce-subject": "key_1",
    "ce-time": "2026-11-15T12:00:00Z",
    "Content-Type": "application/json",
}


def test_headers_are_the_attributes_and_the_body_is_the_data():
    draft = decode_request(HEADERS, b'{"model": "m-1", "input_tokens": 12}')
    assert (draft.source, draft.event_id, draft.type, draft.subject) == ("gate way€", "1", "ai.usage", "key_1")
    assert draft.time == datetime(2026, 11, 15, 12, 0, tzinfo=UTC)
    assert draft.data == {"model": "m-1", "input_tokens": 12}


def test_an_empty_body_is_an_event_without_data():
    assert decode_request(HEADERS, b"").data == {}


@pytest.mark.parametrize("body", [b"hello", b'{"a": 1}, "id": "2"', b"[1]", b'{"a": 1}}', b"\xff"])
def test_a_body_that_is_no_json_object_is_refused(body):
    assert isinstance(decode_request(HEADERS, body), Refusal)


@pytest.mark.parametrize("missing", ["ce-id", "ce-source", "ce-type", "ce-subject"])
def test_a_missing_attribute_is_refused_by_name(missing):
    headers = {name: value for name, value in HEADERS.items() if name != missing}
    assert missing.removeprefix("ce-") in decode_request(headers, b"{}").detail


@given(st.dictionaries(st.sampled_from(sorted(HEADERS)), st.text()), st.binary())
def test_every_request_is_a_draft_or_a_refusal(headers, body):
    assert isinstance(decode_request(headers, body), (Draft, Refusal))
