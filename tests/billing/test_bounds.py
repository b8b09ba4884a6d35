"""Minimum commitments and caps: what they add and take off, in which order, and how they say so."""

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from billing.rating import FlatFee, Maximum, Minimum, UnknownComponent
from tests.billing.rating_builders import NOVEMBER, bill, per_unit, used

FEE = FlatFee(id="fee", label="Support", amount=Decimal(15), in_advance=False)
IN_ADVANCE = FlatFee(id="base", label="Team plan", amount=Decimal(40), in_advance=True)
REQUESTS = per_unit("1")


def minimum(amount: str, *of: str, **more: Any) -> Minimum:
    return Minimum(id=more.pop("id", "minimum"), label="Commitment", amount=Decimal(amount), of=of)


def maximum(amount: str, *of: str, **more: Any) -> Maximum:
    return Maximum(id=more.pop("id", "maximum"), label="Cap", amount=Decimal(amount), of=of)


@pytest.mark.parametrize(
    ("committed", "true_up"), [("0", None), ("70", None), ("69.99", None), ("70.01", "0.01"), ("500", "430")]
)
def test_a_commitment_is_filled_and_nothing_more(committed: str, true_up: str | None) -> None:
    rating = bill([used(70, "requests")], [REQUESTS, minimum(committed)])
    assert [line.amount for line in rating.lines[1:]] == ([] if true_up is None else [Decimal(true_up)])


@pytest.mark.parametrize(("cap", "reduction"), [("0", "-70"), ("69.99", "-0.01"), ("70", None), ("71", None)])
def test_a_cap_takes_off_what_is_beyond_it(cap: str, reduction: str | None) -> None:
    rating = bill([used(70, "requests")], [REQUESTS, maximum(cap)])
    assert [line.amount for line in rating.lines[1:]] == ([] if reduction is None else [Decimal(reduction)])


def test_they_say_what_they_count() -> None:
    rating = bill([used(70, "requests")], [REQUESTS, FEE, minimum("100"), maximum("50", "unit")])
    assert [(line.kind, line.explanation) for line in rating.lines[2:]] == [
        ("maximum", "At most $50.00 for Requests, which come to $70.00: taken off = -$20.00"),
        ("minimum", "At least $100.00 for all charges, which come to $65.00: the rest = $35.00"),
    ]
    assert rating.total_exact == 100
    assert {line.period for line in rating.lines} == {NOVEMBER}


def test_a_fee_in_advance_counts_for_the_period_it_was_charged_for() -> None:
    plan = [REQUESTS, IN_ADVANCE, minimum("100")]
    billed, last = bill([used(50, "requests")], plan), bill([used(50, "requests")], plan, fee_period=None)
    assert [line.amount for line in billed.lines] == [50, 40, 10]
    assert [line.amount for line in last.lines] == [50, 10]


def test_a_minimum_counts_only_the_components_it_names() -> None:
    rating = bill([used(70, "requests")], [REQUESTS, FEE, minimum("80", "unit")])
    assert [line.amount for line in rating.lines] == [70, 15, 10]


def test_a_cap_counts_against_its_components_from_the_last_one_up() -> None:
    plan = [REQUESTS, FEE, maximum("60"), minimum("60", "unit"), minimum("20", "fee", id="fees")]
    lines = bill([used(70, "requests")], plan).lines
    # 85 in all: 25 come off, 15 of them from the fee and 10 from the requests, which then meet their own minimum.
    assert [(line.component_id, line.amount) for line in lines[2:]] == [("maximum", -25), ("fees", 20)]


def test_a_minimum_beats_a_cap_and_minimums_do_not_count_each_other() -> None:
    plan = [REQUESTS, maximum("50"), minimum("60"), minimum("55", id="other")]
    assert [line.amount for line in bill([used(70, "requests")], plan).lines] == [70, -20, 10, 5]


@pytest.mark.parametrize("unknown", ["nothing", "maximum"])
def test_counting_what_is_not_there_or_is_a_cap_is_refused(unknown: str) -> None:
    with pytest.raises(UnknownComponent):
        bill([], [REQUESTS, maximum("5"), minimum("5", unknown)])


amounts = st.decimals(0, 1000, places=4)


@given(quantity=amounts, cap=amounts, commitment=amounts, fee=amounts)
def test_the_bill_lies_between_commitment_and_cap(
    quantity: Decimal, cap: Decimal, commitment: Decimal, fee: Decimal
) -> None:
    charged_fee = FlatFee(id="fee", label="Fee", amount=fee, in_advance=False)
    plan = [REQUESTS, charged_fee, minimum(str(commitment)), maximum(str(cap))]
    total = bill([used(str(quantity), "requests")], plan).total_exact
    assert total == max(commitment, min(cap, quantity + fee))
    assert bill([used(str(quantity), "requests")], [plan[3], plan[0], plan[2], plan[1]]).total_exact == total
