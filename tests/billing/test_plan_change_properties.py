"""Allowances and commitments survive plan changes: whatever plans follow each other in a period, and whenever."""

from datetime import datetime
from decimal import Decimal
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from billing.periods import QUARTER_HOUR
from billing.rating import Minimum, PerUnit, PriceBook, Rating, Reading, Stretch, rate_stretches, share
from billing.rating.sharing import share_of_units
from tests.billing.rating_builders import NOVEMBER

ONE = Decimal(1)
QUARTERS = 30 * 96
# What each plan in turn has a month: units included, and a commitment in dollars.
terms = st.tuples(st.integers(0, 500), st.integers(0, 500))
changes = st.integers(1, 3).flatmap(
    lambda count: st.tuples(
        st.lists(st.integers(1, QUARTERS - 1), min_size=count, max_size=count, unique=True).map(sorted),
        st.lists(terms, min_size=count + 1, max_size=count + 1),
    )
)
usage = st.lists(st.tuples(st.integers(1, 200), st.integers(0, QUARTERS - 1)), max_size=8)


def instant(quarter: int) -> datetime:
    return NOVEMBER.start + quarter * QUARTER_HOUR


def plans_of(cuts: list[int], held: list[tuple[int, int]]) -> list[Stretch]:
    parts = NOVEMBER.split_at([instant(cut) for cut in cuts])
    return [
        Stretch(
            period=part,
            name=f"Plan {number}",
            components=(
                PerUnit(id="1", label="Calls", meter="calls", unit_price=ONE, included=Decimal(included)),
                Minimum(id="2", label="Commitment", amount=Decimal(least)),
            ),
        )
        for number, (part, (included, least)) in enumerate(zip(parts, held, strict=True))
    ]


def rated(used: list[tuple[int, int]], plans: list[Stretch]) -> Rating:
    readings = [
        Reading("calls", "", Decimal(units), instant(quarter), instant(quarter) + QUARTER_HOUR)
        for units, quarter in used
    ]
    prices = PriceBook((), currency="USD")
    return rate_stretches(readings, stretches=plans, whole=NOVEMBER, prices=prices, costs=None, currency="USD")


def promised(plans: list[Stretch], held: list[tuple[int, int]]) -> tuple[Decimal, Decimal]:
    """The plans' shares by time of what they include, and of what they commit to."""
    shares = [
        (
            share_of_units(Decimal(included), plan.period, NOVEMBER),
            share(Decimal(least), plan.period, NOVEMBER),
        )
        for plan, (included, least) in zip(plans, held, strict=True)
    ]
    return sum((one for one, _ in shares), Decimal(0)), sum((one for _, one in shares), Decimal(0))


def covered(rating: Rating) -> Decimal:
    return sum((line.included for line in rating.lines if line.kind == PerUnit.kind), Decimal(0))


@given(change=changes, used=usage)
def test_no_change_loses_or_doubles_an_allowance(change: Any, used: Any) -> None:
    """Never more than the shares by time is covered; and all of it, if there is use for it on the last plan."""
    cuts, held = change
    plans = plans_of(cuts, held)
    allowance, _ = promised(plans, held)
    assert covered(rated(used, plans)) <= allowance
    much = [*used, (10_000, QUARTERS - 1)]
    assert covered(rated(much, plans)) == allowance


@given(change=changes, used=usage)
def test_more_usage_never_costs_less_after_a_change(change: Any, used: Any) -> None:
    cuts, held = change
    plans = plans_of(cuts, held)
    more = [(2 * units, quarter) for units, quarter in used]
    assert rated(more, plans).total_exact >= rated(used, plans).total_exact


@given(change=changes, used=usage)
def test_commitment_is_the_sum_of_its_shares_by_time(change: Any, used: Any) -> None:
    """Whichever of the plans the usage was on: it is owed once, as what the charges of all of them lack."""
    cuts, held = change
    plans = plans_of(cuts, held)
    _, commitment = promised(plans, held)
    rating = rated(used, plans)
    charges = sum((line.amount for line in rating.lines if line.kind == PerUnit.kind), Decimal(0))
    assert rating.total_exact == max(charges, commitment)


@given(change=changes, used=usage, moment=st.integers(1, QUARTERS - 1))
def test_a_change_to_the_same_plan_in_between_changes_nothing(change: Any, used: Any, moment: int) -> None:
    """However many changes there were before and after."""
    cuts, held = change
    if moment in cuts:
        return
    place = sum(cut < moment for cut in cuts)
    once_more = plans_of(sorted([*cuts, moment]), [*held[: place + 1], *held[place:]])
    before, after = rated(used, plans_of(cuts, held)), rated(used, once_more)
    assert covered(after) == covered(before)
    assert after.total_exact == before.total_exact
