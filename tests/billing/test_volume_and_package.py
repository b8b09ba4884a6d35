"""Volume and package prices: what each charges, and how it says so."""

from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from billing.rating import InvalidTiers, Package, Reading, Tier, Volume
from tests.billing.rating_builders import THREE_TIERS, bill, graduated, used


def volume(*tiers: Tier, **more: Any) -> Volume:
    return Volume(id="volume", label="Calls", meter="calls", tiers=tiers, **more)


def package(price: str = "4", size: int = 1000, **more: Any) -> Package:
    return Package(id="pack", label="Images", meter="images", unit_price=Decimal(price), scale=Decimal(size), **more)


@pytest.mark.parametrize(
    ("quantity", "amount"),
    [("1", "0.10"), ("100", "10"), ("100.5", "5.025"), ("101", "5.05"), ("300", "15"), ("301", "3.01"), ("-3", "-0.3")],
)
def test_all_units_cost_what_the_tier_reached_says(quantity: str, amount: str) -> None:
    (line,) = bill([used(quantity, "calls")], [volume(*THREE_TIERS)]).lines
    assert line.amount == Decimal(amount)
    assert [step.amount for step in line.steps] == [line.amount]


def test_volume_line_names_the_tier() -> None:
    tiers = (Tier(Decimal(1000), Decimal("0.01")), Tier(Decimal(5000), Decimal("0.008")), Tier(None, Decimal("0.005")))
    component = volume(*tiers, included=Decimal(100))
    lines = [bill([used(quantity, "calls")], [component]).lines[0] for quantity in (100, 600, 2100, 9100)]
    assert [line.explanation for line in lines] == [
        "100 calls, all included = $0.00",
        "600 calls, of which 100 included: all 500 × $0.01 (the price for up to 1,000) = $5.00",
        "2,100 calls, of which 100 included: all 2,000 × $0.008 (the price for above 1,000 and up to 5,000) = $16.00",
        "9,100 calls, of which 100 included: all 9,000 × $0.005 (the price for above 5,000) = $45.00",
    ]
    assert [line.unit_price for line in lines] == [None, Decimal("0.01"), Decimal("0.008"), Decimal("0.005")]


def test_fee_of_the_tier_reached_is_charged_alone_and_never_for_a_credit() -> None:
    tiers = (Tier(Decimal(10), Decimal(1), flat=Decimal(5)), Tier(None, Decimal("0.5"), flat=Decimal(7)))
    lines = [bill([used(quantity, "calls")], [volume(*tiers)]).lines[0] for quantity in (10, 11, -2)]
    assert [line.amount for line in lines] == [15, Decimal("12.5"), -2]
    assert lines[1].explanation == ("11 calls: all 11 × $0.50 (the price for above 10) + $7.00 for the tier = $12.50")


def test_volume_tiers_are_checked() -> None:
    with pytest.raises(InvalidTiers):
        volume(Tier(Decimal(5), Decimal(1)))


@given(quantity=st.decimals(0, 1000, places=3))
def test_falling_volume_prices_never_cost_more_than_graduated_ones(quantity: Decimal) -> None:
    usage = [used(str(quantity), "calls")]
    by_volume, by_tier = bill(usage, [volume(*THREE_TIERS)]), bill(usage, [graduated(*THREE_TIERS)])
    assert by_volume.total_exact <= by_tier.total_exact
    if quantity <= 100:
        assert by_volume.total_exact == by_tier.total_exact


@pytest.mark.parametrize(
    ("quantity", "packages"), [("0.001", 1), ("1", 1), ("999.999", 1), ("1000", 1), ("1000.001", 2), ("2300", 3)]
)
def test_every_started_block_is_charged(quantity: str, packages: int) -> None:
    (line,) = bill([used(quantity, "images")], [package()]).lines
    assert line.amount == 4 * packages
    assert line.steps[0].units == 1000 * packages


def test_package_line_counts_blocks_after_the_allowance() -> None:
    component = package(included=Decimal(100))
    lines = [bill([used(quantity, "images")], [component]).lines[0] for quantity in (100, 101, 2300, -50)]
    assert [line.explanation for line in lines] == [
        "100 images, all included = $0.00",
        "101 images, of which 100 included: 1 make 1 started block of 1,000 × $4.00 = $4.00",
        "2,300 images, of which 100 included: 2,200 make 3 started blocks of 1,000 × $4.00 = $12.00",
        "-50 images, no block started = $0.00",
    ]


@given(
    quantities=st.lists(st.decimals(-500, 3000, places=3), max_size=8),
    size=st.decimals("0.001", 1500, places=3),
    price=st.decimals(0, 50, places=4),
)
def test_packages_are_counted_once_over_the_period(quantities: list[Decimal], size: Decimal, price: Decimal) -> None:
    component = Package(id="pack", label="Images", meter="images", unit_price=price, scale=size)
    readings: list[Reading] = [used(str(quantity), "images") for quantity in quantities]
    total = max(Fraction(0), sum(map(Fraction, quantities), Fraction(0)))
    blocks = -(-total // Fraction(size))
    assert Fraction(bill(readings, [component]).total_exact) == blocks * Fraction(price)
    assert bill(readings[::-1], [component]).lines == bill(readings, [component]).lines
