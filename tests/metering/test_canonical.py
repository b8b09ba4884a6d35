"""The bytes that seals are made of: two implementations, and spellings that must make no difference."""

import json
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metering import verifier, verifier_quantities
from metering.canonical import NO_PREVIOUS, event_leaf, seal_digest, shortest_number
from metering.identity import event_key

TIME = datetime(2026, 11, 15, 12, 0, 0, 5, tzinfo=UTC)

decimals = st.decimals(allow_nan=False, allow_infinity=False, min_value=Decimal("-1e30"), max_value=Decimal("1e30"))
texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12)
values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | decimals | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=12,
)


def leaf(data, **changes):
    fields = {"source": "gateway", "event_id": "1", "type": "ai.usage", "subject": "key_1", "time": TIME}
    return event_leaf(**fields | {"time_assumed": False} | changes, data=data)


def spelled(value, indent=None):
    """As a sender or a database might write it, every digit kept."""
    numbers = {}

    def mark(inner):
        if isinstance(inner, Decimal):
            numbers[f"@{len(numbers)}@"] = str(inner)
            return f"@{len(numbers) - 1}@"
        if isinstance(inner, list):
            return [mark(item) for item in inner]
        if isinstance(inner, dict):
            return {name: mark(item) for name, item in inner.items()}
        return inner

    text = json.dumps(mark(value), indent=indent)
    for place, number in numbers.items():
        text = text.replace(f'"{place}"', number)
    return text


def test_a_leaf_is_canonical_json():
    content = leaf('{"model": "m-1", "b": [1.50, 1e3, -0.0, 1E-7], "a": {"ü": "\\u001f\\n/\\u007f\\"", "A": null}}')
    assert content.decode() == (
        '["kilotoken.event.1","gateway","1","ai.usage","key_1","2026-11-15T12:00:00.000005Z",false,'
        '{"a":{"A":null,"ü":"\\u001f\\n/\x7f\\""},"b":[1.5,1000,0,0.0000001],"model":"m-1"}]'
    )


@pytest.mark.parametrize(
    ("spelling", "shortest"),
    [
        ("1.50", "1.5"),
        ("15e-1", "1.5"),
        ("1e3", "1000"),
        ("1000.000", "1000"),
        ("-0", "0"),
        ("-0.00", "0"),
        ("0e9", "0"),
        ("1E-7", "0.0000001"),
        ("100", "100"),
        ("-12.3400e2", "-1234"),
        ("0.1000000000000000055511151231257827", "0.1000000000000000055511151231257827"),
        ("9" * 5000, "9" * 5000),
        ("1e1000", "1" + "0" * 1000),
    ],
)
def test_a_number_has_one_spelling(spelling, shortest):
    assert shortest_number(spelling) == verifier_quantities.canonical_number(Decimal(spelling)) == shortest
    assert leaf(f'{{"n": {spelling}}}').endswith(f'{{"n":{shortest}}}]'.encode())


@given(decimals)
def test_the_shortest_number_is_the_same_number(number):
    short = shortest_number(str(number))
    assert Decimal(short) == number
    assert short == verifier_quantities.canonical_number(number)
    assert "e" not in short.lower()


@given(st.dictionaries(texts, values, max_size=5), texts, texts)
def test_server_and_verifier_make_the_same_leaf(data, source, event_id):
    event = {"source": source, "id": event_id, "type": "t", "subject": "s", "time_assumed": True}
    event |= {"time": "2026-11-15T12:00:00.000005Z", "data": verifier.parse_exactly(spelled(data))}
    ours = leaf(spelled(data, indent=1), source=source, event_id=event_id, type="t", subject="s", time_assumed=True)
    assert ours == verifier.leaf_content(event)
    assert event_key(source, event_id) == verifier.leaf_place(event)


@pytest.mark.parametrize(
    "change",
    [
        {"source": "gateway2"},
        {"event_id": "2"},
        {"type": "other"},
        {"subject": "key_2"},
        {"time": TIME + timedelta(microseconds=1)},
        {"time_assumed": True},
        {"data": '{"n": 2}'},
        {"data": '{"n": "1"}'},
        {"data": '{"n": true}'},
    ],
)
def test_every_part_of_an_event_counts(change):
    assert leaf(**{"data": '{"n": 1}'} | change) != leaf('{"n": 1}')


def test_the_zone_of_an_instant_makes_no_difference():
    kathmandu = timezone(timedelta(hours=5, minutes=45))
    assert leaf("{}", time=TIME.astimezone(kathmandu)) == leaf("{}")


def test_a_seals_digest_can_be_computed_in_a_shell():
    text = f"kilotoken seal 1\norg_1\n2026-11-15\n3\n{'ab' * 32}\n{NO_PREVIOUS}\n"
    digest = seal_digest("org_1", date(2026, 11, 15), 3, "ab" * 32, NO_PREVIOUS)
    assert digest == sha256(text.encode()).hexdigest()
    seal = {"day": "2026-11-15", "event_count": 3, "root": "ab" * 32, "previous_digest": NO_PREVIOUS}
    assert verifier.seal_digest("org_1", seal) == digest
