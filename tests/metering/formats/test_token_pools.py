from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metering.formats.token_pools import NotACount, Reported, exclusive, reported

COUNTS = st.none() | st.integers(0, 10**12)
INPUT_POOLS = ("input_tokens", "cache_read_tokens", "cache_write_tokens", "audio_input_tokens", "image_input_tokens")
OUTPUT_POOLS = ("output_tokens", "audio_output_tokens", "image_output_tokens")


def taken_apart(*, may_exclude_cache=False, **counts):
    pools = exclusive(Reported(**counts), may_exclude_cache=may_exclude_cache)
    return dict(pools.tokens), pools.flags


def test_cached_and_special_tokens_leave_the_input():
    tokens, flags = taken_apart(
        input=1000, cache_read=300, cache_write=100, audio_input=150, audio_cache_read=50, image_input=20, output=90
    )
    assert tokens == {
        "input_tokens": 480,
        "cache_read_tokens": 300,
        "cache_write_tokens": 100,
        "audio_input_tokens": 100,
        "image_input_tokens": 20,
        "output_tokens": 90,
    }
    assert flags == ()


def test_reasoning_stays_a_part_of_the_output():
    assert taken_apart(output=90, reasoning=80)[0] == {"output_tokens": 90, "reasoning_tokens": 80}


def test_what_was_not_reported_is_absent_and_a_zero_is_a_zero():
    assert taken_apart(input=0, cache_read=0) == ({"input_tokens": 0, "cache_read_tokens": 0}, ())
    assert taken_apart() == ({}, ())


@pytest.mark.parametrize(
    ("counts", "uncached", "flag"),
    [
        ({"input": 40, "cache_read": 60, "cache_write": 20}, 0, "cache_exceeds_input"),
        ({"input": 40, "audio_input": 60}, 0, "modalities_exceed_input"),
        ({"cache_read": 60}, None, "input_missing"),
    ],
)
def test_more_parts_than_input_are_flagged(counts, uncached, flag):
    tokens, flags = taken_apart(**counts)
    assert tokens.get("input_tokens") == uncached
    assert flags == (flag,)


def test_an_input_that_excluded_the_cache_may_be_taken_as_it_is():
    tokens, flags = taken_apart(input=40, cache_read=60, cache_write=20, may_exclude_cache=True)
    assert tokens == {"input_tokens": 40, "cache_read_tokens": 60, "cache_write_tokens": 20}
    assert flags == ("cache_exceeds_input",)


def test_more_parts_than_output_are_flagged():
    assert taken_apart(output=5, reasoning=6)[1] == ("reasoning_exceeds_output",)
    assert taken_apart(output=5, audio_output=6)[1] == ("modalities_exceed_output",)


@pytest.mark.parametrize("value", [12, "12", 12.0, Decimal("12.0"), Decimal("1.2e1")])
def test_a_count_may_come_as_any_kind_of_whole_number(value):
    assert reported(input=value).input == 12


@pytest.mark.parametrize(
    "value",
    [
        -1,
        True,
        "-1",
        "1.5",
        "",
        "twelve",
        1.5,
        Decimal("0.5"),
        Decimal("1e29"),
        float("nan"),
        float("inf"),
        10**24,
        [],
        {},
    ],
)
def test_anything_else_is_no_count(value):
    with pytest.raises(NotACount):
        reported(input=value)


@given(st.builds(Reported, **dict.fromkeys(Reported.__dataclass_fields__, COUNTS)), st.booleans())
def test_without_a_flag_every_token_is_in_exactly_one_pool(counts, may_exclude_cache):
    pools = exclusive(counts, may_exclude_cache=may_exclude_cache)
    assert all(value >= 0 for value in pools.tokens.values())
    if pools.flags or counts.input is None or counts.output is None:
        return
    if counts.audio_input is not None and counts.image_input is not None:
        cached_twice = (counts.cache_read or 0) - (counts.audio_cache_read or 0) - (counts.image_cache_read or 0) < 0
        assert cached_twice or sum(pools.tokens.get(name, 0) for name in INPUT_POOLS) == counts.input
    assert sum(pools.tokens.get(name, 0) for name in OUTPUT_POOLS) == counts.output
