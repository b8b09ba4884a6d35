"""Flat fees, per-unit and graduated prices: what each charges, and how it says so."""

from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from billing.rating import FlatFee, InvalidTiers, Tier
from tests.billing.rating_builders import DECEMBER, NOVEMBER, THREE_TIERS, bill, graduated, per_unit, used


def test_fee_in_arrears_is_for_the_period_billed_and_in_advance_for_the_next() -> None:
    fees = [
        FlatFee(id="support", label="Support", amount=Decimal(15), in_advance=False),
        FlatFee(id="base", label="Team plan", amount=Decimal(40), in_advance=True),
    ]
    support, base = bill([], fees).lines
    assert (support.amount, support.period) == (Decimal(15), NOVEMBER)
    assert (base.amount, base.period) == (Decimal(40), DECEMBER)
    assert base.explanation == "Team plan, in advance for the coming period = $40.00"
    assert base.key == "base"


def test_fee_in_advance_is_not_charged_when_no_period_follows() -> None:
    fees = [FlatFee(id="base", label="Team plan", amount=Decimal(40), in_advance=True)]
    assert bill([], fees, fee_period=None).lines == ()


# Per unit


def test_units_beyond_the_allowance_are_charged() -> None:
    (line,) = bill([used(250, "requests"), used(750, "requests")], [per_unit(included=Decimal(400))]).lines
    assert (line.quantity, line.included, line.billable) == (1000, 400, 600)
    assert line.amount == Decimal(12)
    assert line.explanation == "1,000 requests, of which 400 included: 600 × $0.02 = $12.00"
    assert line.key == "unit:requests"


@pytest.mark.parametrize(("quantity", "billable"), [(399, 0), (400, 0), (401, 1)])
def test_allowance_ends_exactly_where_it_says(quantity: int, billable: int) -> None:
    (line,) = bill([used(quantity, "requests")], [per_unit(included=Decimal(400))]).lines
    assert line.billable == billable
    assert line.amount == billable * Decimal("0.02")


def test_usage_within_the_allowance_still_shows() -> None:
    (line,) = bill([used(1, "requests")], [per_unit(included=Decimal(400))]).lines
    assert line.explanation == "1 request, all included = $0.00"


@given(quantities=st.lists(st.decimals(-1000, 1000, places=3), max_size=10), allowance=st.decimals(0, 1500, places=3))
def test_an_allowance_never_turns_usage_negative(quantities: list[Decimal], allowance: Decimal) -> None:
    readings = [used(str(quantity), "requests") for quantity in quantities]
    total = sum(quantities, Decimal(0))
    for line in bill(readings, [per_unit(included=allowance)]).lines:
        assert Decimal(0) <= line.included <= allowance
        assert line.included + line.billable == line.quantity == total
        assert line.billable >= min(Decimal(0), total)


def test_only_the_named_models_are_priced() -> None:
    only_sonnet = per_unit(meter="input_tokens", only_models=("sonnet",))
    rating = bill([used(5), used(7, model="haiku")], [only_sonnet])
    assert rating.lines[0].quantity == 5
    assert rating.uncovered == (used(7, model="haiku"),)


def test_net_corrections_become_a_credit_at_the_same_price() -> None:
    (line,) = bill([used(-50, "requests")], [per_unit(included=Decimal(400))]).lines
    assert line.amount == Decimal(-1)
    assert line.explanation == "-50 requests × $0.02 = -$1.00"


# Graduated


@pytest.mark.parametrize(
    ("quantity", "amount"),
    [("1", "0.10"), ("100", "10"), ("101", "10.05"), ("300", "20"), ("301", "20.01"), ("1300", "30"), ("0.5", "0.05")],
)
def test_each_tier_prices_its_own_units(quantity: str, amount: str) -> None:
    (line,) = bill([used(quantity, "calls")], [graduated(*THREE_TIERS)]).lines
    assert line.amount == Decimal(amount)
    assert sum(step.units for step in line.steps) == line.billable
    assert sum(step.amount for step in line.steps) == line.amount


def test_graduated_line_explains_every_tier() -> None:
    tiers = (Tier(Decimal(500), Decimal("0.02")), Tier(None, Decimal("0.01"), flat=Decimal(1)))
    (line,) = bill([used(800, "calls")], [graduated(*tiers, included=Decimal(100))]).lines
    assert line.amount == Decimal(13)
    assert line.unit_price is None
    assert line.explanation == (
        "800 calls, of which 100 included: first 500 × $0.02 = $10.00; "
        "next 200 × $0.01 + $1.00 for reaching the tier = $3.00; together $13.00"
    )
    assert [step.explanation for step in line.steps] == [
        "first 500 × $0.02 = $10.00",
        "next 200 × $0.01 + $1.00 for reaching the tier = $3.00",
    ]


def test_tier_fee_is_charged_from_the_first_unit_in_the_tier() -> None:
    tiers = (Tier(Decimal(10), Decimal(0), flat=Decimal(5)), Tier(None, Decimal(0), flat=Decimal(7)))
    amounts = [bill([used(quantity, "calls")], [graduated(*tiers)]).total_exact for quantity in ("1", "10", "10.001")]
    assert amounts == [5, 5, 12]


def test_allowance_that_covers_all_leaves_no_tier() -> None:
    tiers = (Tier(None, Decimal(1), flat=Decimal(5)),)
    (line,) = bill([used(10, "calls")], [graduated(*tiers, included=Decimal(10))]).lines
    assert (line.amount, line.steps) == (0, ())
    assert line.explanation == "10 calls, all included = $0.00"


def test_net_corrections_run_on_at_the_first_price_without_its_fee() -> None:
    tiers = (Tier(Decimal(10), Decimal(2), flat=Decimal(5)), Tier(None, Decimal(1)))
    assert bill([used(-3, "calls")], [graduated(*tiers)]).total_exact == -6


tier_sets = st.lists(
    st.tuples(st.integers(1, 1000), st.decimals(0, 10, places=6)),
    min_size=0,
    max_size=5,
    unique_by=lambda tier: tier[0],
).map(lambda tiers: tuple(Tier(Decimal(limit), unit_price) for limit, unit_price in sorted(tiers)))


@given(tiers=tier_sets, last_price=st.decimals(0, 10, places=6), quantity=st.decimals(0, 2000, places=6))
def test_graduated_amount_is_continuous_and_never_falls(
    tiers: tuple[Tier, ...], last_price: Decimal, quantity: Decimal
) -> None:
    component = graduated(*tiers, Tier(None, last_price))
    sliver = Decimal("0.000001")
    here = bill([used(str(quantity), "calls")], [component]).total_exact
    beyond = bill([used(str(quantity + sliver), "calls")], [component]).total_exact
    assert here <= beyond <= here + 10 * sliver


@given(tiers=tier_sets, last_price=st.decimals(0, 10, places=6), quantity=st.integers(1, 2000))
def test_graduated_amount_is_that_of_pricing_unit_by_unit(
    tiers: tuple[Tier, ...], last_price: Decimal, quantity: int
) -> None:
    all_tiers = (*tiers, Tier(None, last_price))
    expected = Fraction(0)
    for unit in range(1, quantity + 1):
        tier = next(tier for tier in all_tiers if tier.up_to is None or unit <= tier.up_to)
        expected += Fraction(tier.unit_price)
    assert Fraction(bill([used(quantity, "calls")], [graduated(*all_tiers)]).total_exact) == expected


@pytest.mark.parametrize(
    "limits", [(), (None, None), ("5",), (None, "5"), ("5", "5", None), ("6", "5", None), ("0", None), ("-1", None)]
)
def test_tiers_that_overlap_or_end_are_refused(limits: tuple[str | None, ...]) -> None:
    tiers = [Tier(None if limit is None else Decimal(limit), Decimal(1)) for limit in limits]
    with pytest.raises(InvalidTiers):
        graduated(*tiers)
