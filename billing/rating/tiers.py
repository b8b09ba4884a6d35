"""Price tiers by quantity, shared by graduated and volume prices: they rise, and the last one has no end."""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from itertools import pairwise

from billing.money import ZERO, require_decimal


class InvalidTiers(ValueError):
    code = "invalid_tiers"

    def __init__(self) -> None:
        super().__init__("Tiers must rise from above zero, and the last one, and only that one, must be open-ended.")


@dataclass(frozen=True, slots=True)
class Tier:
    """From where the tier before ends, up to and including `up_to` billable units."""

    up_to: Decimal | None  # None: without end
    unit_price: Decimal
    flat: Decimal = ZERO  # charged once as soon as the tier's first unit (or part of it) is used


def require_tiers(tiers: Sequence[Tier]) -> None:
    """Raises InvalidTiers, and for figures that are none what `require_decimal` raises."""
    for tier in tiers:
        require_decimal(tier.unit_price, "unit price")
        require_decimal(tier.flat, "tier fee")
    if not tiers or tiers[-1].up_to is not None:
        raise InvalidTiers
    limits = [ZERO, *(tier.up_to for tier in tiers[:-1])]
    if any(upper is None or lower is None or require_decimal(upper) <= lower for lower, upper in pairwise(limits)):
        raise InvalidTiers
