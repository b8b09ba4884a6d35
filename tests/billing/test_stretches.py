"""A period under several plans: what carries on, what is shared by time; a change to the same terms changes nothing."""

from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from billing.periods import QUARTER_HOUR, Period
from billing.rating import (
    Component,
    FlatFee,
    Graduated,
    Maximum,
    Minimum,
    Package,
    PerUnit,
    PriceBook,
    RateCard,
    Rating,
    Reading,
    ReadingOutsidePeriod,
    SharedAllowance,
    Stretch,
    Tier,
    Volume,
    part_in_words,
    rate_stretches,
    share,
)
from billing.rating.sharing import share_of_units
from tests.billing.rating_builders import NOVEMBER, november, price

HALF = november(16)
TIERS = (
    Tier(Decimal(100), Decimal("0.10"), Decimal(2)),
    Tier(Decimal(300), Decimal("0.05")),
    Tier(None, Decimal("0.01"), Decimal(1)),
)
PLANS: dict[str, tuple[Component, ...]] = {
    "per unit": (PerUnit(id="1", label="Calls", meter="calls", unit_price=Decimal("0.02"), included=Decimal(150)),),
    "graduated": (Graduated(id="1", label="Calls", meter="calls", tiers=TIERS, included=Decimal(50)),),
    "volume": (Volume(id="1", label="Calls", meter="calls", tiers=TIERS, included=Decimal(7)),),
    "package": (
        Package(id="1", label="Calls", meter="calls", unit_price=Decimal(3), scale=Decimal(40), included=Decimal(25)),
    ),
    "rate card": (RateCard(id="1", label="All", included={"calls": Decimal(99)}),),
    "shared": (RateCard(id="1", label="All", shared=SharedAllowance(Decimal(120), {"calls": Decimal(2)})),),
    "committed": (
        PerUnit(id="1", label="Calls", meter="calls", unit_price=Decimal("0.02")),
        FlatFee(id="2", label="Fee", amount=Decimal(7), in_advance=False),
        FlatFee(id="3", label="Base", amount=Decimal(3), in_advance=True),
        Minimum(id="4", label="Commitment", amount=Decimal(25)),
        Maximum(id="5", label="Cap", amount=Decimal(5), of=("1",)),
    ),
}
ROWS = (price("2", "calls", "", scale=Decimal(100)),)


def used(quantity: int, at: datetime, meter: str = "calls") -> Reading:
    return Reading(meter, "", Decimal(quantity), at, at + QUARTER_HOUR)


def stretch(start: datetime, end: datetime, *components: Component, **more: Any) -> Stretch:
    return Stretch(period=Period(start, end), components=components, name=more.pop("name", "Plan"), **more)


def rated(readings: list[Reading], *stretches: Stretch) -> Rating:
    prices = PriceBook(ROWS, currency="USD")
    return rate_stretches(readings, stretches=stretches, whole=NOVEMBER, prices=prices, costs=None, currency="USD")


def calls(unit_price: str = "0.02", **more: Any) -> PerUnit:
    return PerUnit(id="1", label="Calls", meter="calls", unit_price=Decimal(unit_price), **more)


instants = st.integers(1, 30 * 96 - 1).map(lambda quarter: NOVEMBER.start + quarter * QUARTER_HOUR)
usage = st.lists(st.tuples(st.integers(1, 200), instants), max_size=8)


@given(plan=st.sampled_from(sorted(PLANS)), amounts=usage, cuts=st.lists(instants, min_size=1, max_size=3, unique=True))
@settings(max_examples=150)
def test_change_to_a_plan_of_the_same_terms_changes_no_total(plan: str, amounts: Any, cuts: list[datetime]) -> None:
    readings = [used(quantity, at) for quantity, at in amounts]
    divided = [replace_period(plan, part) for part in NOVEMBER.split_at(cuts)]
    whole = rated(readings, replace_period(plan, NOVEMBER))
    parts = rated(readings, *divided)
    assert parts.total_exact == whole.total_exact
    assert sum(
        line.included for line in parts.lines if line.kind in ("per_unit", "graduated", "rate_card", "shared")
    ) == sum(line.included for line in whole.lines if line.kind in ("per_unit", "graduated", "rate_card", "shared"))


def replace_period(plan: str, part: Period) -> Stretch:
    return Stretch(period=part, components=PLANS[plan], name=plan)


@given(
    plans=st.lists(st.sampled_from(sorted(PLANS)), min_size=2, max_size=4),
    amounts=usage,
    cuts=st.lists(instants, min_size=3, max_size=3, unique=True),
)
def test_every_unit_is_on_one_line_and_amounts_add_up(plans: list[str], amounts: Any, cuts: list[datetime]) -> None:
    readings = [used(quantity, at) for quantity, at in amounts]
    parts = NOVEMBER.split_at(sorted(cuts)[: len(plans) - 1])
    result = rated(readings, *(replace_period(plan, part) for plan, part in zip(plans, parts, strict=True)))
    lines = [line for line in result.lines if line.meter]
    assert sum(line.quantity for line in lines) == sum(reading.quantity for reading in readings)
    assert len({line.key for line in result.lines}) == len(result.lines)
    assert sum(line.amount for line in result.lines) == result.total_exact
    assert all(line.included + line.billable == line.quantity for line in lines)


@given(
    amount=st.decimals(0, 10_000, places=2), cuts=st.lists(instants, max_size=6, unique=True), step=st.integers(0, 1)
)
def test_shares_of_any_division_add_up_to_the_whole(amount: Decimal, cuts: list[datetime], step: int) -> None:
    parts = NOVEMBER.split_at(cuts)
    shares = [share(amount, part, NOVEMBER) for part in parts]
    assert sum(shares) == amount
    assert all(0 <= one <= amount for one in shares)
    units = amount.to_integral_value()
    assert sum(share_of_units(units, part, NOVEMBER) for part in parts) == units


def test_usage_is_priced_by_the_plan_of_its_time() -> None:
    result = rated(
        [used(100, november(3)), used(100, november(20))],
        stretch(NOVEMBER.start, HALF, calls("0.02"), name="Small"),
        stretch(HALF, NOVEMBER.end, calls("0.01"), name="Large"),
    )
    assert [(line.amount, line.period) for line in result.lines] == [
        (Decimal(2), Period(NOVEMBER.start, HALF)),
        (Decimal(1), Period(HALF, NOVEMBER.end)),
    ]
    assert [line.explanation for line in result.lines] == [
        "Small: 100 calls × $0.02 = $2.00",
        "Large: 100 calls × $0.01 = $1.00",
    ]


def test_unused_allowance_carries_on_to_the_next_plan() -> None:
    """Half a month of 100 units, none of them used, is still there when the other plan includes nothing."""
    result = rated(
        [used(80, november(20))],
        stretch(NOVEMBER.start, HALF, calls(included=Decimal(100))),
        stretch(HALF, NOVEMBER.end, calls("0.01")),
    )
    (line,) = result.lines
    assert (line.included, line.billable) == (Decimal(50), Decimal(30))


def test_allowance_of_a_later_plan_covers_nothing_used_before_it() -> None:
    result = rated(
        [used(80, november(3)), used(80, november(20))],
        stretch(NOVEMBER.start, HALF, calls()),
        stretch(HALF, NOVEMBER.end, calls(included=Decimal(100))),
    )
    assert [line.included for line in result.lines] == [Decimal(0), Decimal(50)]


def test_allowance_used_early_is_shared_by_time_when_the_next_plan_has_none() -> None:
    """The fee for the second half is given back, so is the allowance."""
    result = rated(
        [used(80, november(3))],
        stretch(NOVEMBER.start, HALF, calls(included=Decimal(100))),
        stretch(HALF, NOVEMBER.end, calls()),
    )
    assert [line.included for line in result.lines] == [Decimal(50)]


def test_tiers_count_on_and_say_so() -> None:
    tiers = Graduated(id="1", label="Calls", meter="calls", tiers=TIERS)
    result = rated(
        [used(120, november(3)), used(300, november(20))],
        stretch(NOVEMBER.start, HALF, tiers, name="Small"),
        stretch(HALF, NOVEMBER.end, tiers, name="Large"),
    )
    assert [line.explanation for line in result.lines] == [
        "Small: 120 calls: first 100 × $0.10 + $2.00 for reaching the tier = $12.00; next 20 × $0.05 = $1.00; "
        "together $13.00",
        "Large: 300 calls: first 180 × $0.05 = $9.00; next 120 × $0.01 + $1.00 for reaching the tier = $2.20; "
        "together $11.20 (tiers count on from 120)",
    ]


def test_fee_of_a_stretch_is_its_part_and_says_so() -> None:
    fee = FlatFee(id="1", label="Support", amount=Decimal(40), in_advance=False)
    result = rated([], stretch(NOVEMBER.start, november(11), fee), stretch(november(11), NOVEMBER.end, calls()))
    (line,) = result.lines
    assert line.amount == Decimal("13.333333333333")
    assert line.explanation == ("Plan: Support, for this period = $13.333333333333 ($40.00 for 10 of 30 days)")


def test_commitment_is_met_by_the_charges_of_all_plans_that_had_it() -> None:
    """$60 for the month: half of 100 and half of 20. The first half's $50 and the second's $10 meet it together."""
    first = stretch(NOVEMBER.start, HALF, calls("1"), Minimum(id="2", label="Commitment", amount=Decimal(100)))
    second = stretch(HALF, NOVEMBER.end, calls("1"), Minimum(id="2", label="Commitment", amount=Decimal(20)))
    assert [line.kind for line in rated([used(60, november(3))], first, second).lines] == ["per_unit"]
    *_, true_up = rated([used(50, november(3))], first, second).lines
    assert true_up.amount == 10
    assert true_up.explanation == (
        "At least $60.00 for all charges, which come to $50.00: the rest = $10.00 "
        "($100.00 for 15 of 30 days, then $20.00 for 15 of 30 days)"
    )


def test_commitment_of_one_plan_counts_only_what_that_plan_charged() -> None:
    first = stretch(NOVEMBER.start, HALF, calls("1"))
    second = stretch(HALF, NOVEMBER.end, calls("1"), Minimum(id="2", label="Commitment", amount=Decimal(100)))
    *_, true_up = rated([used(500, november(3)), used(20, november(20))], first, second).lines
    assert true_up.amount == 30


def test_nothing_is_charged_where_nothing_is_to_be() -> None:
    fee = FlatFee(id="2", label="Fee", amount=Decimal(30), in_advance=False)
    result = rated(
        [used(100, november(3)), used(100, november(20))],
        stretch(NOVEMBER.start, HALF, calls(), fee, is_charged=False),
        stretch(HALF, NOVEMBER.end, calls(), fee),
    )
    assert [line.amount for line in result.lines] == [Decimal(2), Decimal(15)]
    assert [reading.start for reading in result.uncovered] == [november(3)]


def test_total_that_cannot_be_cut_belongs_to_the_last_plan() -> None:
    peak = Reading("calls", "", Decimal(7), NOVEMBER.start, NOVEMBER.end)
    result = rated([peak], stretch(NOVEMBER.start, HALF, calls("1")), stretch(HALF, NOVEMBER.end, calls("2")))
    assert [line.amount for line in result.lines] == [Decimal(14)]


def test_usage_after_a_period_was_cut_off_is_refused() -> None:
    with pytest.raises(ReadingOutsidePeriod):
        rated([used(1, november(20))], stretch(NOVEMBER.start, HALF, calls()))


def test_parts_are_said_in_the_largest_unit_that_fits() -> None:
    start = NOVEMBER.start
    assert part_in_words(Period(start, november(11)), NOVEMBER) == "10 of 30 days"
    assert part_in_words(Period(start, start + timedelta(hours=5)), NOVEMBER) == "5 of 720 hours"
    assert part_in_words(Period(start, start + QUARTER_HOUR), NOVEMBER) == "15 of 43,200 minutes"


def test_an_undivided_period_is_rated_as_ever() -> None:
    card = replace(PLANS["rate card"][0], id="1")
    (line,) = rated([used(199, november(3))], stretch(NOVEMBER.start, NOVEMBER.end, card)).lines
    assert line.explanation == "199 calls, of which 99 included: 100 × $2.00 per 100 = $2.00"
