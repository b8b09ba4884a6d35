import json
from decimal import Decimal

import pytest

from metering.bars import HEIGHT, stacked
from metering.body_repairs import InvalidRepair, make_repair, repaired, value_from

BODY = '{"id":"1","subject":"key_a","data":{"model":"gpt5","input_tokens":0.10,"note":null}}'


def after(*repairs, body=BODY):
    text = repaired(body, repairs)
    return text and json.loads(text, parse_float=Decimal)


def test_a_member_is_set_whether_it_is_there_or_not():
    assert after(make_repair("subject", "key_b"))["subject"] == "key_b"
    assert after(make_repair("data.tokens.input", 5))["data"]["tokens"] == {"input": 5}
    assert after(make_repair("data.note", "x"))["data"]["note"] == "x"


def test_a_value_is_put_in_the_place_of_another_only_where_it_is():
    assert after(make_repair("data.model", "gpt-5", was="gpt5"))["data"]["model"] == "gpt-5"
    assert after(make_repair("data.model", "gpt-5", was="other")) is None
    assert after(make_repair("data.none", "gpt-5", was=None)) is None
    assert after(make_repair("more.model", "gpt-5", was="gpt5")) is None
    assert after(make_repair("data.input_tokens", 1, was=Decimal("0.1")))["data"]["input_tokens"] == 1


def test_every_other_digit_stays():
    body = '{"data":{"a":123456789012345678901.123456789012345678,"b":1}}'
    assert "123456789012345678901.123456789012345678" in repaired(body, [make_repair("data.b", 2)])


def test_what_cannot_be_repaired_stays():
    for body in ("no json", "[]", '{"data":5}'):
        assert repaired(body, [make_repair("data.model", "x")]) is None
    assert repaired(BODY, [make_repair("data.model", "gpt5")]) is None
    assert repaired(BODY, []) is None


@pytest.mark.parametrize("path", ["", "a..b", ".", "a.b.c.d.e.f.g.h.i"])
def test_a_path_names_a_member(path):
    with pytest.raises(InvalidRepair):
        make_repair(path, 1)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("gpt-5", "gpt-5"),
        ("5", 5),
        ('"5"', "5"),
        ("0.10", Decimal("0.10")),
        ("null", None),
        ("true", True),
        ("", ""),
        ('1,"x":2', '1,"x":2'),
    ],
)
def test_a_value_is_json_where_it_is_some(text, value):
    assert value_from(text) == value


def test_bars_of_a_place_stand_on_each_other_and_the_largest_reaches_the_top():
    chart = stacked([("a", [1, 2]), ("b", [3, 0])], ["Mon", "Tue"])
    assert chart.largest == 4
    assert [(bar.title, bar.y, bar.height) for bar in chart.bars] == [
        ("Mon, a: 1", f"{HEIGHT * 3 / 4:.1f}", f"{HEIGHT / 4:.1f}"),
        ("Mon, b: 3", "0.0", f"{HEIGHT * 3 / 4:.1f}"),
        ("Tue, a: 2", f"{HEIGHT / 2:.1f}", f"{HEIGHT / 2:.1f}"),
    ]
    assert stacked([], []).bars == ()
