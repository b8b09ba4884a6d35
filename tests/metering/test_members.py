"""What meters read out of data: in Python, in SQL and in the customer's verifier it is the same."""

import json
from decimal import Decimal

import pytest
from django.db import connection
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from metering import verifier_quantities
from metering.aggregation import members as in_sql
from metering.exact_json import decode_object
from metering.members import (
    OPERATORS,
    PRESENCE,
    Condition,
    Tiers,
    lets_through,
    read_member,
    readable_number,
    scalar_text,
    tier_of,
)
from metering.verifier import parse_exactly

pytestmark = pytest.mark.django_db

texts = st.sampled_from(["", "eu", "7", "7.0", "1e2", "true", "-3", "x y"])
numbers = st.sampled_from(["7", "7.00", "1e2", "-0", "0.1", "12345678901234567890.5", "-3"])
scalars = texts.map(json.dumps) | numbers | st.sampled_from(["true", "false", "null", "{}", "[7]"])
names = st.sampled_from(["a", "b", "a.b"])


@st.composite
def data(draw):
    """JSON of an object with members a, b, a.b, and an object or a list below a."""
    found = {name: draw(scalars) for name in draw(st.sets(names))}
    if draw(st.booleans()):
        found["a"] = draw(st.sampled_from(['{"b": %s}', '[{"b": %s}]', '{"b": {"c": %s}}'])) % draw(scalars)
    return "{" + ", ".join(f'"{name}": {value}' for name, value in found.items()) + "}"


@st.composite
def conditions(draw):
    operator = draw(st.sampled_from(OPERATORS))
    values = []
    if operator not in PRESENCE:
        source = ["7", "100", "0.1", "-3"] if operator[0] in "gl" else ["7", "eu", "true", "", "100"]
        count = 2 if operator.endswith("in") else 1
        values = draw(st.lists(st.sampled_from(source), min_size=1, max_size=count))
    return Condition(draw(st.sampled_from(["a", "b", "a.b", "a.b.c"])), operator, tuple(values))


def selected(expression, spelled):
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT {expression.text} FROM (SELECT %s::jsonb) AS e (data)", [*expression.params, spelled])
        return cursor.fetchone()[0]


many = settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))


@many
@given(spelled=data(), condition=conditions())
def test_conditions_hold_alike(spelled, condition):
    plain = {"field": condition.field, "operator": condition.operator, "values": list(condition.values)}
    held = lets_through([condition], decode_object(spelled))
    assert selected(in_sql.conditions([condition]), spelled) == held
    assert verifier_quantities._holds(plain, parse_exactly(spelled)) == held


@many
@given(spelled=data(), path=st.sampled_from(["a", "b", "a.b", "a.b.c"]))
def test_numbers_and_texts_are_read_alike(spelled, path):
    member, theirs = (
        read_member(decode_object(spelled), path),
        verifier_quantities._member(parse_exactly(spelled), path),
    )
    number = readable_number(member)
    assert selected(in_sql.number(path), spelled) == number == verifier_quantities._number(theirs)
    assert selected(in_sql.scalar_text(path), spelled) == scalar_text(member) == verifier_quantities._text(theirs)


@many
@given(spelled=data())
def test_tiers_are_found_alike(spelled):
    tiers = Tiers(("a", "b", "a.b"), ((Decimal("7"), "low"), (Decimal("100.5"), "middle"), (None, "high")))
    assert selected(in_sql.dimension("tier", tiers), spelled) == tier_of(tiers, decode_object(spelled))


@pytest.mark.parametrize(
    ("size", "label"), [("7", "low"), ("7.000000000000000001", "middle"), ("100.5", "middle"), ("100.6", "high")]
)
def test_a_tier_reaches_up_to_its_bound_and_includes_it(size, label):
    tiers = Tiers(("a",), ((Decimal("7"), "low"), (Decimal("100.5"), "middle"), (None, "high")))
    assert tier_of(tiers, {"a": Decimal(size)}) == label
