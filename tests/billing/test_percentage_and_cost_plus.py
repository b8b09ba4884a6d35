"""Shares of a metered amount, and the provider's cost with a markup: what each charges, and how it says so."""

from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from billing.money import InvalidAmount, UnknownCurrency
from billing.rating import CostPlus, FloorAboveCeiling, MeterCurrencyDiffers, Percentage
from tests.billing.rating_builders import MILLION, bill, november, price, rate_card, used


def percentage(percent: str = "2.9", currency: str = "USD", **more: Any) -> Percentage:
    return Percentage(
        id="share", label="Payments", meter="payments", percent=Decimal(percent), currency=currency, **more
    )


def cost_plus(markup: str = "1.3", **more: Any) -> CostPlus:
    return CostPlus(id="cost", label="Tokens", multiplier=Decimal(markup), **more)


def test_a_share_of_what_is_beyond_the_free_amount() -> None:
    component = percentage(included=Decimal(1000))
    lines = [bill([used(amount, "payments")], [component]).lines[0] for amount in ("12345.67", "1000", "-50")]
    assert [line.explanation for line in lines] == [
        "$12,345.67 of payments, of which $1,000.00 free: 2.9% of $11,345.67 = $329.02443",
        "$1,000.00 of payments, all free = $0.00",
        "-$50.00 of payments: 2.9% of -$50.00 = -$1.45",
    ]
    assert (lines[0].unit_price, lines[0].scale) == (Decimal("2.9"), 100)


def test_a_share_in_another_currency_is_refused() -> None:
    with pytest.raises(MeterCurrencyDiffers):
        bill([used("5", "payments")], [percentage(currency="EUR")])
    with pytest.raises(UnknownCurrency):
        percentage(currency="tokens")
    with pytest.raises(InvalidAmount):
        percentage("-1")


@given(parts=st.lists(st.decimals(-1000, 1000, places=2), max_size=6), percent=st.decimals(0, 100, places=4))
def test_shares_add_up_over_any_split(parts: list[Decimal], percent: Decimal) -> None:
    component = percentage(str(percent))
    together = bill([used(str(part), "payments") for part in parts], [component]).total_exact
    apart = sum((Fraction(bill([used(str(part), "payments")], [component]).total_exact) for part in parts), Fraction(0))
    assert Fraction(together) == apart


# Cost-plus


def test_cost_with_a_markup_names_the_cost_and_its_row() -> None:
    (line,) = bill([used(2_000_000)], [cost_plus()], [price("99")], costs=[price("3", id="cost-row")]).lines
    assert (line.amount, line.price_row_ids) == (Decimal("7.8"), ("cost-row",))
    assert line.explanation == "2,000,000 input tokens × $3.90 per 1,000,000 = $7.80 (cost $3.00 × 1.3)"


@pytest.mark.parametrize(
    ("cost", "amount", "note"),
    [
        ("0.05", "0.10", "(cost $0.05 × 1.3 = $0.065, but at least $0.10 per 1,000,000)"),
        ("3", "3.90", "(cost $3.00 × 1.3)"),
        ("9", "10", "(cost $9.00 × 1.3 = $11.70, but at most $10.00 per 1,000,000)"),
    ],
)
def test_floor_and_ceiling_bound_the_unit_price(cost: str, amount: str, note: str) -> None:
    component = cost_plus(floor=Decimal("0.10"), ceiling=Decimal(10))
    (line,) = bill([used(1_000_000)], [component], costs=[price(cost)]).lines
    assert line.amount == Decimal(amount)
    assert line.explanation.endswith(note)


def test_bounds_hold_whatever_the_scale_of_the_cost() -> None:
    component = cost_plus(floor=Decimal("0.10"))
    (line,) = bill([used(1_000_000)], [component], costs=[price("0.00005", scale=Decimal(1000))]).lines
    assert (line.unit_price, line.scale, line.amount) == (Decimal("0.0001"), 1000, Decimal("0.1"))


def test_usage_without_a_known_cost_is_unpriced_whatever_the_floor() -> None:
    rating = bill([used(5)], [cost_plus(floor=Decimal(1))], [price("99")])
    assert (rating.lines, rating.unpriced) == ((), (used(5),))


def test_a_cost_that_changes_prices_each_part_by_its_own() -> None:
    change = november(10)
    costs = [price("2", id="old", until=change), price("4", id="new", since=change)]
    lines = bill([used(1_000_000, day=3), used(1_000_000, day=12)], [cost_plus("1.5")], costs=costs).lines
    assert [(line.price_row_ids, line.amount) for line in lines] == [(("old",), 3), (("new",), 6)]
    assert lines[0].period.end == lines[1].period.start == change


def test_the_allowance_of_cost_plus_comes_off_first() -> None:
    component = cost_plus("2", included={"input_tokens": MILLION})
    assert bill([used(1_500_000)], [component], costs=[price("1")]).total_exact == 1


def test_a_floor_above_the_ceiling_is_refused() -> None:
    with pytest.raises(FloorAboveCeiling):
        cost_plus(floor=Decimal(2), ceiling=Decimal(1))


@given(
    quantities=st.lists(st.integers(0, 10**9), min_size=1, max_size=6),
    cost=st.decimals(0, 20, places=4),
    markup=st.decimals(0, 3, places=3),
)
def test_cost_plus_is_a_rate_card_over_costs_and_adds_up(quantities: list[int], cost: Decimal, markup: Decimal) -> None:
    readings = [used(quantity) for quantity in quantities]
    by_cost = bill(readings, [cost_plus(str(markup))], costs=[price(str(cost))]).total_exact
    assert by_cost == bill(readings, [rate_card(multiplier=markup)], [price(str(cost))]).total_exact
    apart = [bill([reading], [cost_plus(str(markup))], costs=[price(str(cost))]).total_exact for reading in readings]
    assert by_cost == sum(apart)
    assert by_cost == bill(readings[::-1], [cost_plus(str(markup))], costs=[price(str(cost))]).total_exact
