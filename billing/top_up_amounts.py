"""How much credit may be bought at a time, in any currency. Reads and writes nothing."""

from dataclasses import dataclass
from decimal import Decimal

from accounts.errors import DomainError
from billing.money import currency_named, format_money, minimum_charge, minor_to_decimal, round_to_minor

# The least is so many times Stripe's minimum charge, whose fee would otherwise eat much of it; then steps from there.
TIMES_THE_MINIMUM = 10
STEPS = (2, 5, 10, 20)
LARGEST_STEP = 2_000


class AmountRefused(DomainError):
    code = "amount_refused"
    status = 422


@dataclass(frozen=True, slots=True)
class Amounts:
    """What may be bought in a currency, in minor units."""

    currency: str
    least: int
    most: int
    presets: tuple[int, ...]


def amounts_in(currency: str) -> Amounts:
    rule = currency_named(currency)
    least = _rounded_up(TIMES_THE_MINIMUM * max(minimum_charge(currency), 10**rule.decimals // 2))
    return Amounts(currency, least, least * LARGEST_STEP, tuple(least * step for step in STEPS))


def require_buyable(amount: Decimal, amounts: Amounts) -> int:
    """The amount in minor units. Raises AmountRefused."""
    bounds = f"from {format_money(amounts.least, amounts.currency)} to {format_money(amounts.most, amounts.currency)}"
    if not amount.is_finite() or abs(amount.adjusted()) > 20:
        raise AmountRefused(f"Enter an amount {bounds}.")
    minor = round_to_minor(amount, amounts.currency)
    if minor_to_decimal(minor, amounts.currency) != amount:
        raise AmountRefused(f"That is finer than {amounts.currency} can be charged in.")
    if not amounts.least <= minor <= amounts.most:
        raise AmountRefused(f"Enter an amount {bounds}.")
    return minor


def _rounded_up(minor: int) -> int:
    """The next 1, 2 or 5 times a power of ten."""
    power = int(10 ** (len(str(minor)) - 1))
    return next(power * step for step in (1, 2, 5, 10) if power * step >= minor)
