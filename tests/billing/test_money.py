"""Money: rounding, apportioning and formatting, in every currency and under any ambient decimal context."""

from decimal import ROUND_DOWN, Context, Decimal, FloatOperation, Inexact, localcontext
from fractions import Fraction
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from billing.money import (
    CURRENCIES,
    InvalidAmount,
    UnknownCurrency,
    apportion,
    cost_of,
    currency_named,
    exact_sum,
    format_exact,
    format_money,
    format_quantity,
    format_unit_price,
    minimum_charge,
    minor_to_decimal,
    plain,
    require_not_negative,
    require_positive,
    round_to_minor,
)

currencies = st.sampled_from(sorted(CURRENCIES))
amounts = st.decimals(min_value=-(10**12), max_value=10**12, places=12)
# Amounts that tie, cancel and vanish far more often than random ones do.
awkward_amounts = st.sampled_from(
    [
        Decimal(text)
        for text in ("0", "-0", "0.005", "-0.005", "0.5", "-0.5", "0.0049", "1E-12", "-1E-12", "0.004", "2.5")
    ]
)


def exact_minor(amount: Decimal, currency: str) -> Fraction:
    return Fraction(amount) * 10 ** currency_named(currency).decimals


@pytest.mark.parametrize(
    ("amount", "currency", "minor"),
    [
        ("12.34", "USD", 1234),
        ("0.005", "USD", 1),
        ("-0.005", "USD", -1),
        ("0.004999999999", "USD", 0),
        ("1.015", "EUR", 102),
        ("2.675", "EUR", 268),
        ("0.5", "JPY", 1),
        ("-0.5", "JPY", -1),
        ("1234.4999", "JPY", 1234),
        ("5.124", "KWD", 5120),
        ("5.125", "KWD", 5130),
        ("-5.125", "KWD", -5130),
        ("0.004", "BHD", 0),
        ("5.5", "ISK", 600),
        ("1234.49", "ISK", 123400),
        ("0", "USD", 0),
        ("1E+3", "USD", 100000),
    ],
)
def test_amount_is_rounded_half_away_from_zero_to_what_can_be_charged(amount: str, currency: str, minor: int) -> None:
    assert round_to_minor(Decimal(amount), currency) == minor


@given(amount=amounts | awkward_amounts, currency=currencies)
def test_rounding_moves_an_amount_by_at_most_half_a_step(amount: Decimal, currency: str) -> None:
    minor, step = round_to_minor(amount, currency), currency_named(currency).step
    assert minor % step == 0
    assert abs(minor - exact_minor(amount, currency)) <= Fraction(step, 2)
    assert round_to_minor(amount.copy_negate(), currency) == -minor


def test_rounding_is_exact_at_any_magnitude() -> None:
    assert round_to_minor(Decimal("9" * 60 + ".995"), "USD") == 10**62
    assert round_to_minor(Decimal("9" * 60 + ".9949999999999999"), "USD") == 10**62 - 1
    assert apportion([Decimal("1E+50"), Decimal("0.005")], "USD") == (10**52 + 1, [10**52, 1])


@given(amounts=st.lists(amounts, max_size=20), currency=currencies)
def test_ambient_decimal_context_changes_nothing(amounts: list[Decimal], currency: str) -> None:
    calm = apportion(amounts, currency), [format_exact(amount, currency) for amount in amounts]
    with localcontext(Context(prec=1, rounding=ROUND_DOWN, Emin=-2, Emax=2)):
        assert (apportion(amounts, currency), [format_exact(amount, currency) for amount in amounts]) == calm


@given(amounts=st.lists(amounts | awkward_amounts, max_size=60), currency=currencies)
def test_shares_add_up_to_the_exact_sum_rounded_once(amounts: list[Decimal], currency: str) -> None:
    total, shares = apportion(amounts, currency)
    exact_total = sum((Fraction(amount) for amount in amounts), Fraction(0))
    step = currency_named(currency).step
    assert sum(shares) == total
    assert len(shares) == len(amounts)
    assert abs(total - exact_total * 10 ** currency_named(currency).decimals) <= Fraction(step, 2)
    for amount, share in zip(amounts, shares, strict=True):
        assert share % step == 0
        assert abs(share - exact_minor(amount, currency)) < step


@pytest.mark.parametrize("currency", sorted(CURRENCIES))
@pytest.mark.parametrize("count", [1, 2, 81, 1000])
def test_up_to_a_thousand_lines_of_a_fraction_add_up(currency: str, count: int) -> None:
    amounts = [Decimal(7 * number % 1000 + 1).scaleb(-5) for number in range(count)]
    total, shares = apportion(amounts, currency)
    assert sum(shares) == total == round_to_minor(sum(amounts, Decimal(0)), currency)


@given(amounts=st.lists(amounts | awkward_amounts, max_size=30), currency=currencies)
def test_a_credit_of_the_same_lines_cancels_each_of_them(amounts: list[Decimal], currency: str) -> None:
    total, shares = apportion(amounts, currency)
    credit_total, credit_shares = apportion([amount.copy_negate() for amount in amounts], currency)
    assert credit_total == -total
    assert credit_shares == [-share for share in shares]


@given(minors=st.lists(st.integers(-(10**9), 10**9), max_size=30), currency=currencies)
def test_amounts_that_need_no_rounding_are_left_alone(minors: list[int], currency: str) -> None:
    chargeable = [minor * currency_named(currency).step for minor in minors]
    assert apportion([minor_to_decimal(minor, currency) for minor in chargeable], currency) == (
        sum(chargeable),
        chargeable,
    )


def test_remaining_cents_go_to_the_largest_remainders_and_then_to_the_first() -> None:
    thirds = [Decimal("33.333"), Decimal("33.334"), Decimal("33.333")]
    assert apportion(thirds, "USD") == (10000, [3333, 3334, 3333])
    assert apportion([Decimal("0.005")] * 3, "USD") == (2, [1, 1, 0])
    assert apportion([Decimal("-0.005")] * 3, "USD") == (-2, [-1, -1, 0])
    assert apportion([Decimal("1.009"), Decimal("-0.004")], "USD") == (101, [101, 0])
    assert apportion([Decimal(0), Decimal("0.006"), Decimal(0)], "USD") == (1, [0, 1, 0])
    assert apportion([], "USD") == (0, [])


@pytest.mark.parametrize("code", ["UGX", "usd", "XXX", "", "BTC"])
def test_unknown_currency_is_refused_everywhere(code: str) -> None:
    for call in (
        lambda: round_to_minor(Decimal(1), code),
        lambda: apportion([], code),
        lambda: format_money(1, code),
        lambda: format_exact(Decimal(1), code),
        lambda: minor_to_decimal(1, code),
        lambda: minimum_charge(code),
    ):
        with pytest.raises(UnknownCurrency) as refusal:
            call()
        assert refusal.value.code == "unknown_currency"


def test_every_currency_has_the_minor_unit_that_stripe_charges() -> None:
    by_shape: dict[tuple[int, int], int] = {}
    for currency in CURRENCIES.values():
        by_shape[currency.decimals, currency.step] = by_shape.get((currency.decimals, currency.step), 0) + 1
    assert by_shape.keys() == {(0, 1), (2, 1), (3, 10), (2, 100)}
    assert by_shape[0, 1] == 15
    assert by_shape[3, 10] == 5
    assert by_shape[2, 100] == 1
    assert all(len(code) == 3 and code.isupper() for code in CURRENCIES)


def test_minimum_charge_is_stripes_and_always_something_chargeable() -> None:
    assert (minimum_charge("USD"), minimum_charge("GBP"), minimum_charge("JPY")) == (50, 30, 50)
    assert (minimum_charge("KWD"), minimum_charge("ISK"), minimum_charge("ZAR")) == (10, 100, 1)
    assert all(minimum_charge(code) % currency.step == 0 for code, currency in CURRENCIES.items())


@pytest.mark.parametrize("value", [1.5, 1, "1.50", None, True])
def test_only_decimals_are_amounts(value: Any) -> None:
    for call in (
        lambda: round_to_minor(value, "USD"),
        lambda: apportion([value], "USD"),
        lambda: format_exact(value, "USD"),
        lambda: format_quantity(value),
    ):
        with pytest.raises((TypeError, FloatOperation)):
            call()


@pytest.mark.parametrize("value", [1.5, Decimal("1.5"), "1", True])
def test_only_integers_are_minor_units(value: Any) -> None:
    with pytest.raises(TypeError):
        format_money(value, "USD")


@pytest.mark.parametrize("text", ["NaN", "sNaN", "Infinity", "-Infinity", "1E+999999", "1E-999999"])
def test_what_cannot_be_charged_is_refused(text: str) -> None:
    with pytest.raises(InvalidAmount):
        round_to_minor(Decimal(text), "USD")


def test_sign_checks_say_which_figure_is_wrong() -> None:
    assert require_not_negative(Decimal(0), "allowance") == 0
    assert require_positive(Decimal("0.1"), "scale") == Decimal("0.1")
    with pytest.raises(InvalidAmount, match="allowance"):
        require_not_negative(Decimal(-1), "allowance")
    with pytest.raises(InvalidAmount, match="scale"):
        require_positive(Decimal(0), "scale")


@pytest.mark.parametrize(
    ("minor", "currency", "text"),
    [
        (123456, "USD", "$1,234.56"),
        (-1, "USD", "-$0.01"),
        (0, "USD", "$0.00"),
        (100, "EUR", "€1.00"),
        (1234567, "JPY", "¥1,234,567"),
        (5120, "KWD", "KWD 5.120"),
        (-5120, "KWD", "-KWD 5.120"),
        (123400, "ISK", "ISK 1,234.00"),
        (100000000000000, "USD", "$1,000,000,000,000.00"),
    ],
)
def test_minor_units_read_as_on_a_bill(minor: int, currency: str, text: str) -> None:
    assert format_money(minor, currency) == text


@pytest.mark.parametrize(
    ("amount", "currency", "text"),
    [
        ("0.0000375", "USD", "$0.0000375"),
        ("-0.0000375", "USD", "-$0.0000375"),
        ("1.8518517", "USD", "$1.8518517"),
        ("12.5", "USD", "$12.50"),
        ("1.500000000000", "USD", "$1.50"),
        ("1E+3", "USD", "$1,000.00"),
        ("-0", "USD", "$0.00"),
        ("0.25", "JPY", "¥0.25"),
        ("3", "JPY", "¥3"),
        ("1234.5", "CHF", "CHF 1,234.50"),
        ("0.00000000000000000001", "USD", "$0.00000000000000000001"),
    ],
)
def test_exact_amount_is_shown_in_full(amount: str, currency: str, text: str) -> None:
    assert format_exact(Decimal(amount), currency) == text


def test_endless_quotient_is_cut_visibly() -> None:
    third = cost_of(Decimal(1), Decimal(1), Decimal(3))
    assert format_exact(third, "USD") == "$0.33333333333333333333…"


def test_unit_price_says_what_it_buys() -> None:
    assert format_unit_price(Decimal("0.15"), scale=Decimal(1_000_000), currency="USD") == "$0.15 per 1,000,000"
    assert format_unit_price(Decimal("0.0004"), scale=Decimal(1), currency="EUR") == "€0.0004"


def test_quantity_is_grouped_and_complete() -> None:
    assert format_quantity(Decimal("12345678.500")) == "12,345,678.5"
    assert format_quantity(Decimal("-1E+6")) == "-1,000,000"


@given(minor=st.integers(-(10**15), 10**15), currency=currencies)
def test_minor_units_survive_the_way_there_and_back(minor: int, currency: str) -> None:
    chargeable = minor * currency_named(currency).step
    assert round_to_minor(minor_to_decimal(chargeable, currency), currency) == chargeable


@given(units=amounts, price=amounts, power=st.integers(0, 12))
def test_cost_at_a_power_of_ten_is_exact(units: Decimal, price: Decimal, power: int) -> None:
    cost = cost_of(units, price, Decimal(10**power))
    assert Fraction(cost) == Fraction(units) * Fraction(price) / 10**power


@given(units=amounts, price=amounts, scale=st.integers(1, 10**9))
def test_cost_at_any_scale_is_right_to_sixty_digits(units: Decimal, price: Decimal, scale: int) -> None:
    exact = Fraction(units) * Fraction(price) / scale
    assert abs(Fraction(cost_of(units, price, Decimal(scale))) - exact) <= abs(exact) / 10**59


@given(numbers=st.lists(amounts, max_size=30))
def test_sum_is_exact_and_its_plain_form_is_unique(numbers: list[Decimal]) -> None:
    total = exact_sum(numbers)
    assert Fraction(total) == sum((Fraction(number) for number in numbers), Fraction(0))
    assert str(plain(total)) == str(plain(exact_sum(reversed([*numbers, Decimal("0.000")]))))
    assert "E+" not in str(plain(total))


def test_a_sum_that_cannot_be_exact_raises_instead_of_losing_digits() -> None:
    with pytest.raises(Inexact):
        exact_sum([Decimal("1E+2000"), Decimal("1E-2000")])


@given(low=amounts, high=amounts, currency=currencies)
def test_more_is_never_rounded_to_less(low: Decimal, high: Decimal, currency: str) -> None:
    ordered = sorted([low, high])
    assert all(
        round_to_minor(lower, currency) <= round_to_minor(higher, currency) for lower, higher in pairwise(ordered)
    )
