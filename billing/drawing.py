"""What each grant of credit pays of some charges: pure arithmetic, which neither reads nor writes.

By priority, then what expires first, then the oldest. A grant that is limited to meters pays only their charges, what
comes with a plan pays usage only, and no grant brings what is charged in all below zero.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from billing.models import CreditGrant
from billing.money import EXACT, ZERO, exact_sum, plain


@dataclass(frozen=True, slots=True)
class Charge:
    """What may be paid by credit. The meter is empty for a charge that is of none, such as a fee."""

    meter: str
    amount: Decimal


@dataclass(frozen=True, slots=True)
class Holding:
    """A grant and what is left of it."""

    grant: CreditGrant
    left: Decimal


@dataclass(frozen=True, slots=True)
class Draw:
    """What a grant pays, and what is left of it then."""

    grant: CreditGrant
    amount: Decimal
    left: Decimal

    @property
    def had(self) -> Decimal:
        return plain(EXACT.add(self.amount, self.left))


def planned_draws(
    holdings: Iterable[Holding], charges: Iterable[Charge], *, most: Mapping[int, Decimal] | None = None
) -> list[Draw]:
    """In the order in which they pay. `most` bounds what some grants, by primary key, may pay."""
    owed: dict[str, Decimal] = {}
    for charge in charges:
        owed[charge.meter] = EXACT.add(owed.get(charge.meter, ZERO), charge.amount)
    draws: list[Draw] = []
    ordered = sorted(holdings, key=lambda holding: burn_order(holding.grant))
    for place, holding in enumerate(ordered, start=1):
        available = min(holding.left, (most or {}).get(holding.grant.pk, holding.left))
        paid = _pay(holding.grant, available, owed, later=[one.grant for one in ordered[place:]])
        if paid > 0:
            draws.append(Draw(holding.grant, plain(paid), plain(EXACT.subtract(holding.left, paid))))
    return draws


def is_usable(grant: CreditGrant, now: datetime) -> bool:
    return grant.effective_at <= now and (grant.expires_at is None or now < grant.expires_at)


def after(holdings: Iterable[Holding], draws: Iterable[Draw]) -> tuple[Holding, ...]:
    """The holdings as these draws leave them; used up ones are dropped."""
    left = {draw.grant.pk: draw.left for draw in draws}
    rest = (Holding(one.grant, left.get(one.grant.pk, one.left)) for one in holdings)
    return tuple(one for one in rest if one.left > 0)


def _pay(grant: CreditGrant, available: Decimal, owed: dict[str, Decimal], *, later: Sequence[CreditGrant]) -> Decimal:
    """Takes what the grant pays off what is owed, and answers how much that is; first what the fewest of the grants
    after it could pay, so that what is limited finds its charges unpaid."""
    # What is owed in all bounds it too: a discount makes the charges of meters no larger than the bill.
    room = min(available, max(exact_sum(owed.values()), ZERO))
    paid = ZERO
    for meter in sorted(owed, key=lambda meter: sum(one.pays(meter) for one in later)):
        amount = owed[meter]
        if amount > 0 and grant.pays(meter):
            taken = min(EXACT.subtract(room, paid), amount)
            owed[meter] = EXACT.subtract(amount, taken)
            paid = EXACT.add(paid, taken)
    return paid


def burn_order(grant: CreditGrant) -> tuple[Any, ...]:
    """Sorts grants into the order in which they pay."""
    return (
        grant.priority,
        grant.expires_at is None,
        grant.expires_at or grant.effective_at,
        grant.effective_at,
        grant.pk,
    )
