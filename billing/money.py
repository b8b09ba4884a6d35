"""Money: minor units, the one rounding, apportioning, exact decimal arithmetic, and amounts as people read them.

Amounts before rounding are `Decimal` in the major unit (dollars), amounts owed `int` in Stripe's minor unit (cents).
An amount is rounded exactly once, half away from zero, in `round_to_minor`; everything before it is exact, whatever
the ambient decimal context says. Floats are refused. Knows nothing of tax, prices, exchange rates or the database.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import (
    ROUND_HALF_UP,
    Context,
    Decimal,
    DivisionByZero,
    FloatOperation,
    Inexact,
    InvalidOperation,
    Overflow,
)
from fractions import Fraction
from functools import lru_cache

MAX_MAGNITUDE = 400  # decimal places on either side of the point; far beyond any bill, small enough to stay cheap
MAX_SHOWN_DECIMALS = 20

_TRAPS = [FloatOperation, InvalidOperation, DivisionByZero, Overflow]
# Sums and products must come out exact: a result that does not fit raises instead of being rounded.
EXACT = Context(prec=4 * MAX_MAGNITUDE, rounding=ROUND_HALF_UP, traps=[*_TRAPS, Inexact])
# Quotients that never end (a price per 3 units) are cut at 60 significant digits: besides the one rounding, only here.
QUOTIENT = Context(prec=60, rounding=ROUND_HALF_UP, traps=_TRAPS)

ZERO = Decimal(0)
ONE = Decimal(1)


class UnknownCurrency(ValueError):
    code = "unknown_currency"

    def __init__(self, currency: str) -> None:
        super().__init__(f"The currency {currency!r} is not one we can charge in.")


class InvalidAmount(ValueError):
    code = "invalid_amount"

    def __init__(self, name: str, value: Decimal) -> None:
        super().__init__(f"The {name} {value} is not a number that can be charged.")


@dataclass(frozen=True, slots=True)
class Currency:
    """How a currency is charged through Stripe: 1 major unit = 10^decimals minor units, of which only the first
    `charged_decimals` may be other than zero (docs.stripe.com/currencies, "Special cases")."""

    code: str
    decimals: int
    charged_decimals: int
    symbol: str | None

    @property
    def step(self) -> int:
        """The smallest chargeable amount in minor units."""
        return int(10 ** (self.decimals - self.charged_decimals))


_ZERO_DECIMAL = "BIF CLP DJF GNF JPY KMF KRW MGA PYG RWF VND VUV XAF XOF XPF"
_TWO_DECIMAL = (
    "AED AFN ALL AMD AOA ARS AUD AWG AZN BAM BBD BDT BMD BND BOB BRL BSD BWP BYN BZD CAD CDF CHF CNY COP CRC CVE CZK "
    "DKK DOP DZD EGP ETB EUR FJD FKP GBP GEL GIP GMD GTQ GYD HKD HNL HTG HUF IDR ILS INR JMD KES KGS KHR KYD KZT LAK "
    "LBP LKR LRD LSL MAD MDL MKD MMK MNT MOP MUR MVR MWK MXN MYR MZN NAD NGN NIO NOK NPR NZD PAB PEN PGK PHP PKR PLN "
    "QAR RON RSD SAR SBD SCR SEK SGD SHP SOS SRD SZL THB TJS TOP TRY TTD TWD TZS UAH USD UYU UZS WST XCD YER ZAR ZMW"
)
_THREE_DECIMAL = "BHD JOD KWD OMR TND"  # Stripe wants their last digit to be 0
# Passed with two decimals that are always 00. UGX, ambiguous in Stripe's text, is left out.
_TWO_DECIMAL_WHOLE = "ISK"
_SYMBOLS = {
    "USD": "$", "EUR": "€", "GBP": "£", "JPY": "¥", "INR": "₹", "KRW": "₩", "BRL": "R$", "AUD": "A$", "CAD": "CA$",
    "NZD": "NZ$", "HKD": "HK$", "MXN": "MX$", "ILS": "₪", "VND": "₫",
}  # fmt: skip
# Stripe's minimum charge amounts (docs.stripe.com/currencies), in minor units.
_MINIMUM_CHARGES = {
    "USD": 50, "AED": 200, "AUD": 50, "BRL": 50, "CAD": 50, "CHF": 50, "CZK": 1500, "DKK": 250, "EUR": 50, "GBP": 30,
    "HKD": 400, "HUF": 17500, "INR": 50, "JPY": 50, "MXN": 1000, "MYR": 200, "NOK": 300, "NZD": 50, "PLN": 200,
    "RON": 200, "SEK": 300, "SGD": 50, "THB": 1000,
}  # fmt: skip


def _currencies() -> dict[str, Currency]:
    kinds = ((_ZERO_DECIMAL, 0, 0), (_TWO_DECIMAL, 2, 2), (_THREE_DECIMAL, 3, 2), (_TWO_DECIMAL_WHOLE, 2, 0))
    return {
        code: Currency(code, decimals, charged_decimals, _SYMBOLS.get(code))
        for codes, decimals, charged_decimals in kinds
        for code in codes.split()
    }


CURRENCIES = _currencies()


def currency_named(code: str) -> Currency:
    """The currency with this upper-case ISO 4217 code; raises UnknownCurrency."""
    try:
        return CURRENCIES[code]
    except (KeyError, TypeError):
        raise UnknownCurrency(code) from None


def require_decimal(value: Decimal, name: str = "amount") -> Decimal:
    """The value itself; TypeError unless it is a Decimal, InvalidAmount unless finite and of a sane magnitude."""
    if not isinstance(value, Decimal):
        raise TypeError(f"The {name} must be a Decimal, not {type(value).__name__}.")
    if not value.is_finite() or abs(value.adjusted()) > MAX_MAGNITUDE:
        raise InvalidAmount(name, value)
    return value


def require_positive(value: Decimal, name: str) -> Decimal:
    if require_decimal(value, name) <= 0:
        raise InvalidAmount(name, value)
    return value


def require_not_negative(value: Decimal, name: str) -> Decimal:
    if require_decimal(value, name) < 0:
        raise InvalidAmount(name, value)
    return value


def exact_sum(amounts: Iterable[Decimal]) -> Decimal:
    total = ZERO
    for amount in amounts:
        total = EXACT.add(total, amount)
    return total


def cost_of(units: Decimal, unit_price: Decimal, scale: Decimal) -> Decimal:
    """units × unit_price ÷ scale, without trailing zeros: the price buys `scale` units. Exact unless the quotient has
    more than 60 significant digits."""
    product = EXACT.multiply(units, unit_price)
    return plain(product if scale == 1 else QUOTIENT.divide(product, scale))


def plain(number: Decimal) -> Decimal:
    """The same number in its one plain form: no trailing zeros, no exponent, no negative zero."""
    if not number:
        return ZERO
    if number.same_quantum(ONE):  # most are whole and written as such
        return number
    whole = EXACT.to_integral_value(number)
    return EXACT.quantize(whole, ONE) if whole == number else EXACT.normalize(number)


def round_to_minor(amount: Decimal, currency: str) -> int:
    """The one rounding: the amount in minor units, half away from zero, to what the currency can be charged in
    (whole yen, cents, hundredths of a dinar given as thousandths, whole krónur given with two decimals)."""
    rule = currency_named(currency)
    return _round_to_steps(require_decimal(amount), rule) * rule.step


def apportion(amounts: Sequence[Decimal], currency: str) -> tuple[int, list[int]]:
    """The total (the exact sum, rounded once) and a share for each amount, in minor units, such that the shares add up
    to the total and each lies less than one rounding step from its exact amount.

    Largest remainder: every amount is rounded down and the steps that remain go to the largest remainders, the earlier
    first where they tie. For a negative sum everything is mirrored, so that a credit of the same lines cancels them.
    """
    rule = currency_named(currency)
    exact_total = exact_sum(require_decimal(amount) for amount in amounts)
    is_mirrored = next((value < 0 for value in (exact_total, *amounts) if value), False)
    sign = -1 if is_mirrored else 1
    scaled = [_in_steps(amount.copy_negate() if is_mirrored else amount, rule) for amount in amounts]
    shares = [int(steps.to_integral_value("ROUND_FLOOR")) for steps in scaled]
    remainders = [EXACT.subtract(steps, Decimal(share)) for steps, share in zip(scaled, shares, strict=True)]
    total = _round_to_steps(exact_total, rule)
    by_remainder = sorted(range(len(shares)), key=remainders.__getitem__, reverse=True)
    for index in by_remainder[: sign * total - sum(shares)]:
        shares[index] += 1
    return total * rule.step, [sign * share * rule.step for share in shares]


def share_out(total_minor: int, weights: Sequence[Decimal]) -> list[int]:
    """Whole minor units of the total for each weight (above zero), by largest remainder, the earlier first where they
    tie; they add up to the total, whatever its sign."""
    whole = sum(map(Fraction, weights))
    exact = [abs(total_minor) * Fraction(weight) / whole for weight in weights]
    shares = [int(part) for part in exact]
    by_remainder = sorted(range(len(exact)), key=lambda place: shares[place] - exact[place])
    for place in by_remainder[: abs(total_minor) - sum(shares)]:
        shares[place] += 1
    return [share if total_minor >= 0 else -share for share in shares]


def minimum_charge(currency: str) -> int:
    """The least that Stripe charges, in minor units: a smaller total is to be carried over. Where Stripe names no
    figure for the currency itself, the smallest amount above zero."""
    return _MINIMUM_CHARGES.get(currency) or currency_named(currency).step


def minor_to_decimal(minor: int, currency: str) -> Decimal:
    """Minor units as an exact amount in the major unit: 1234 → Decimal("12.34")."""
    if not isinstance(minor, int) or isinstance(minor, bool):
        raise TypeError(f"Minor units must be an int, not {type(minor).__name__}.")
    return EXACT.scaleb(Decimal(minor), Decimal(-currency_named(currency).decimals))


def format_money(minor: int, currency: str) -> str:
    """Minor units as read on a bill: "$1,234.56", "-$0.01", "CHF 5.00"."""
    return format_exact(minor_to_decimal(minor, currency), currency)


def format_exact(amount: Decimal, currency: str) -> str:
    """An unrounded amount in full, with at least the currency's decimals: "$0.0000375". A quotient that goes on past
    20 decimals is cut there and ends in "…"."""
    rule = currency_named(currency)
    number = require_decimal(amount)
    digits = _grouped(number.copy_abs(), decimals=rule.decimals)
    sign = "-" if number < 0 else ""
    return f"{sign}{rule.symbol}{digits}" if rule.symbol else f"{sign}{rule.code} {digits}"


@lru_cache(maxsize=4096, typed=True)
def format_unit_price(unit_price: Decimal, *, scale: Decimal, currency: str) -> str:
    """A price and how many units it buys: "$0.15 per 1,000,000"; for one unit just "$0.15"."""
    price = format_exact(unit_price, currency)
    return price if scale == 1 else f"{price} per {format_quantity(scale)}"


def format_quantity(quantity: Decimal) -> str:
    """A number of units, grouped, in full: "12,345,678.5"."""
    number = require_decimal(quantity, "quantity")
    return f"{'-' if number < 0 else ''}{_grouped(number.copy_abs(), decimals=0)}"


def _in_steps(amount: Decimal, rule: Currency) -> Decimal:
    return EXACT.scaleb(amount, Decimal(rule.charged_decimals))


def _round_to_steps(amount: Decimal, rule: Currency) -> int:
    return int(_in_steps(amount, rule).to_integral_value(ROUND_HALF_UP))


def _grouped(number: Decimal, *, decimals: int) -> str:
    whole, _, fraction = format(number, ",f").partition(".")
    fraction = fraction.rstrip("0").ljust(decimals, "0")
    if len(fraction) > MAX_SHOWN_DECIMALS:
        fraction = fraction[:MAX_SHOWN_DECIMALS] + "…"
    return f"{whole}.{fraction}" if fraction else whole
