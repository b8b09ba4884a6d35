import json
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metering.drafts import Draft, Refusal
from metering.formats.cloudevents import NotJson, decode_body, decode_event

EVENT = {
    "specversion": "1.0",
    "id": "1",
    "source": "gateway",
    "type": "ai.usage",
    "subject": "key_1",
    "time": "2026-11-15T12:00:00.123456Z",
    "data": {"model": "m-1", "input_tokens": 12},
}


def encoded(**changes) -> bytes:
    members = {name: value for name, value in (EVENT | changes).items() if value is not ...}
    return json.dumps(members).encode()


def test_an_event_arrives_with_every_field():
    assert decode_event(encoded()) == Draft(
        source="gateway",
        event_id="1",
        type="ai.usage",
        subject="key_1",
        time=datetime(2026, 11, 15, 12, 0, 0, 123456, tzinfo=UTC),
        raw_data=b'{"model": "m-1", "input_tokens": 12}',
        data={"model": "m-1", "input_tokens": 12},
        body=encoded(),
    )


def test_numbers_keep_every_digit():
    draft = decode_event(encoded().replace(b"12}", b'0.1000000000000000000000001, "big": 12345678901234567890123}'))
    assert draft.data["input_tokens"] == Decimal("0.1000000000000000000000001")
    assert draft.data["big"] == 12345678901234567890123


def test_a_body_is_one_event_or_an_array_of_them():
    assert len(decode_body(encoded())) == 1
    assert len(decode_body(b"[" + encoded() + b" , " + encoded(id="2") + b"]")) == 2
    assert decode_body(b"\xef\xbb\xbf " + encoded() + b"\n")[0].event_id == "1"
    assert decode_body(b"[]") == []


def test_a_time_keeps_its_instant_in_any_zone():
    draft = decode_event(encoded(time="2026-11-15T13:00:00+01:00"))
    assert draft.time == datetime(2026, 11, 15, 13, 0, tzinfo=timezone(timedelta(hours=1)))


def test_time_and_data_may_be_absent():
    draft = decode_event(encoded(time=..., data=...))
    assert (draft.time, draft.data, draft.raw_data) == (None, {}, b"{}")


def test_extension_attributes_are_let_through():
    assert isinstance(decode_event(encoded(traceparent="00-1", anything={"a": 1})), Draft)


@pytest.mark.parametrize("kind", ["application/json", "application/json; charset=utf-8", "text/json", "a/vnd.x+json"])
def test_json_content_types_are_taken(kind):
    assert isinstance(decode_event(encoded(datacontenttype=kind.replace("a/", "application/"))), Draft)


@pytest.mark.parametrize(
    ("changes", "hint"),
    [
        ({"specversion": "0.3"}, "specversion"),
        ({"specversion": ...}, "specversion"),
        ({"id": ...}, "`id`"),
        ({"id": ""}, "id of 1 to 255"),
        ({"id": "x" * 256}, "id of 1 to 255"),
        ({"id": 7}, "id of 1 to 255"),
        ({"id": "a\x00b"}, "NUL"),
        ({"source": ...}, "`source`"),
        ({"source": "a\x00b"}, "NUL"),
        ({"type": None}, "`$.type`"),
        ({"subject": ...}, "key_…"),
        ({"subject": "x" * 256}, "key_…"),
        ({"time": "2026-11-15T12:00:00"}, "RFC 3339"),
        ({"time": "yesterday"}, "RFC 3339"),
        ({"time": 1763208000}, "RFC 3339"),
        ({"time": "2026-02-30T12:00:00Z"}, "RFC 3339"),
        ({"datacontenttype": "application/xml"}, "datacontenttype"),
        ({"data_base64": "AAAA"}, "data_base64"),
        ({"data": [1]}, "JSON object"),
        ({"data": "text"}, "JSON object"),
        ({"data": {"a": "x\x00"}}, "NUL"),
        ({"data": {"a\x00": 1}}, "NUL"),
        ({"data": {"a": "\ud800"}}, "JSON"),
    ],
)
def test_a_malformed_event_is_refused_with_advice(changes, hint):
    refusal = decode_event(encoded(**changes))
    assert isinstance(refusal, Refusal)
    assert refusal.reason == "invalid_event"
    assert hint in refusal.detail
    assert refusal.body == encoded(**changes)


@pytest.mark.parametrize(
    "number",
    [b"NaN", b"Infinity", b"-Infinity", b"1e999999", b"1e99999999999999999999", b"9" * 6000, b"01", b"1.", b"+1"],
)
def test_a_number_that_is_none_is_refused(number):
    assert isinstance(decode_event(encoded().replace(b"12}", number + b"}")), Refusal)


def test_an_escaped_backslash_is_not_a_nul():
    assert isinstance(decode_event(encoded(data={"a": "\\u0000"})), Draft)


def test_one_event_has_at_most_64_kib():
    room = 64 * 1024 - len(encoded(data={"a": ""}))
    assert isinstance(decode_event(encoded(data={"a": "x" * room})), Draft)
    assert decode_event(encoded(data={"a": "x" * (room + 1)})).reason == "too_large"


@pytest.mark.parametrize("depth", [70, 5000, 20000])
def test_deep_nesting_is_refused(depth):
    refusal = decode_event(encoded().replace(b"12}", b"[" * depth + b"]" * depth + b"}"))
    assert isinstance(refusal, Refusal)


def test_wide_data_is_not_deep():
    assert isinstance(decode_event(encoded(data={"a": [[] for _ in range(500)]})), Draft)


def test_a_broken_event_does_not_spoil_its_neighbours():
    for broken in (b"{}", b"7", b'{"data": {"a": NaN}}', b'{"id": "\\ud800"}', b'{"id": "\xff"}', b'["x"]'):
        first, refusal, last = decode_body(b"[" + encoded() + b"," + broken + b"," + encoded(id="3") + b"]")
        assert (first.event_id, last.event_id) == ("1", "3")
        assert isinstance(refusal, Refusal)


def test_source_and_id_of_a_refused_event_are_told_where_they_can_be_read():
    refusal = decode_event(encoded(time="never"))
    assert (refusal.source, refusal.event_id) == ("gateway", "1")


@pytest.mark.parametrize(
    "body", [b"", b"hello", b"{", b"[", b'[{"a":1}', b"[1 2]", b"[1],", b"\xff\xfe", b"[" * 90000, b"<xml/>", b"]"]
)
def test_a_body_that_is_not_json_is_told_apart(body):
    with pytest.raises(NotJson):
        decode_body(body)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters()), inner),
)


@given(st.binary())
def test_no_bytes_raise_anything_else(body):
    assert isinstance(decode_event(body), Refusal)
    try:
        decoded = decode_body(body)
    except NotJson:
        return
    assert all(isinstance(element, Refusal) for element in decoded)


@given(JSON)
def test_any_json_is_taken_apart(value):
    decoded = decode_body(json.dumps(value).encode())
    assert len(decoded) == (len(value) if isinstance(value, list) else 1)


@given(st.dictionaries(st.sampled_from([*EVENT, "data_base64", "datacontenttype"]), JSON))
def test_an_event_with_any_members_is_a_draft_or_a_refusal(changes):
    assert isinstance(decode_event(encoded(**changes)), Draft | Refusal)
