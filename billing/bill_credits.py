"""What credit pays of a bill: a line for each grant, after everything else and before too small a rest is carried over.

A grant pays for a period that it was valid in. One that expires in the period pays what it would have paid of the bill
as it stood then; one that begins in it pays for all of it. Writes nothing: closing books what the lines say.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from datetime import datetime
from decimal import Decimal

from accounts.models import Organisation
from accounts.remembering import remember, remembered
from billing import schedules
from billing.bills import Bill, BillLine, share_total
from billing.drawing import Charge, Draw, Holding, planned_draws
from billing.holdings import locked_holdings, unused_holdings
from billing.models import CreditGrant, GrantKind, Subscription
from billing.models.invoices import LineKind
from billing.money import EXACT, ZERO, exact_sum, format_exact, plain
from billing.periods import Period, next_quarter_hour
from billing.schedules import RESOLUTION

KIND_WORDS = {
    GrantKind.MANUAL: "Credit",
    GrantKind.PROMOTIONAL: "Promotional credit",
    GrantKind.PLAN: "Credit",
    GrantKind.PURCHASED: "Purchased credit",
    GrantKind.OWED: "Credit",
}

# The bill as it stood at an instant of its period.
type BillAt = Callable[[datetime], Bill]


@remembered
def holdings_of(organisation: Organisation) -> tuple[Holding, ...]:
    """An organisation's grants of which something is left, of every currency."""
    return tuple(unused_holdings([organisation]).get(organisation.pk, ()))


def lock_holdings(organisations: Sequence[Organisation]) -> None:
    """Lock them for the transaction that will book what is drawn, and remember what is left of them."""
    found = locked_holdings(organisations)
    for organisation in organisations:
        remember(holdings_of, organisation, answer=tuple(found.get(organisation.pk, ())))


def with_credit(bill: Bill, available: Iterable[Holding], *, bill_at: BillAt) -> Bill:
    """The bill with what credit pays of it as lines at its end, and the total shared out again."""
    draws = draws_on(bill, available, bill_at=bill_at)
    if not draws:
        return bill
    credit = [_line(bill, draw) for draw in draws]
    shared, total_exact, total_minor = share_total([*bill.lines, *credit], bill.currency)
    return replace(bill, lines=shared, total_exact=total_exact, total_minor=total_minor, draws=tuple(draws))


def lapses_of(holdings: Iterable[Holding], subscription: Subscription, period: Period) -> list[Draw]:
    """What lapses when a period is closed: of credit that the plan brought and that stays for another period, what lies
    beyond the plan's maximum; what expires first lapses first. `holdings` are what the period's bill has left."""
    most = schedules.version_at(subscription, period.start).credit_most_rolled
    if most is None:
        return []
    stays = [one for one in holdings if _stays_after(one.grant, subscription, period)]
    excess = EXACT.subtract(exact_sum(one.left for one in stays), most)
    lapses: list[Draw] = []
    for one in sorted(stays, key=lambda one: (one.grant.expires_at, one.grant.pk)):
        amount = min(one.left, excess)
        if amount > 0:
            lapses.append(Draw(one.grant, plain(amount), plain(EXACT.subtract(one.left, amount))))
            excess = EXACT.subtract(excess, amount)
    return lapses


def _stays_after(grant: CreditGrant, subscription: Subscription, period: Period) -> bool:
    if grant.subscription_id != subscription.pk or grant.period_start is None or grant.expires_at is None:
        return False
    return grant.period_start < period.end < grant.expires_at


def draws_on(bill: Bill, available: Iterable[Holding], *, bill_at: BillAt) -> list[Draw]:
    """What each grant pays of a bill that has no credit on it yet."""
    if bill.total_exact <= 0:
        return []
    valid = [one for one in available if _was_valid(one, bill)]
    most: dict[int, Decimal] = {}
    for expiry in sorted({expiry for one in valid if (expiry := _expiry_within(one, bill))}):
        then = [one for one in valid if one.grant.effective_at < expiry]
        paid = {draw.grant.pk: draw.amount for draw in _draws(then, bill_at(_quarter_hour_of(expiry)), most)}
        most |= {one.grant.pk: paid.get(one.grant.pk, ZERO) for one in then if one.grant.expires_at == expiry}
    return _draws(valid, bill, most)


def _draws(holdings: Iterable[Holding], bill: Bill, most: dict[int, Decimal]) -> list[Draw]:
    charges = [Charge(line.meter, line.amount_exact) for line in bill.lines]
    return planned_draws(holdings, charges, most=most)


def _was_valid(holding: Holding, bill: Bill) -> bool:
    """At some time of the period so far."""
    grant, period = holding.grant, bill.period
    if grant.currency != bill.currency or grant.effective_at >= period.end or grant.effective_at > bill.cutoff:
        return False
    return grant.expires_at is None or grant.expires_at > period.start


def _expiry_within(holding: Holding, bill: Bill) -> datetime | None:
    """Of those that expired in the period. Who expires when it ends, or while late events are waited for, did not."""
    expires_at = holding.grant.expires_at
    has_expired = expires_at is not None and expires_at <= bill.cutoff and expires_at < bill.period.end
    return expires_at if has_expired else None


def _quarter_hour_of(expiry: datetime) -> datetime:
    """The end of the quarter hour that it lies in, since totals are kept by those."""
    return next_quarter_hour(expiry - RESOLUTION)


def _line(bill: Bill, draw: Draw) -> BillLine:
    grant = draw.grant
    return BillLine(
        key=f"credit:{grant.public_id}",
        kind=LineKind.CREDIT,
        description=f"Credit: {grant.reason}",
        amount_exact=plain(draw.amount.copy_negate()),
        explanation=_sentence(bill, draw),
        period=bill.period,
    )


def _sentence(bill: Bill, draw: Draw) -> str:
    grant, currency = draw.grant, bill.currency
    words = [
        f"{KIND_WORDS[GrantKind(grant.kind)]} “{grant.reason}” had {format_exact(draw.had, currency)}: it pays "
        f"{format_exact(draw.amount, currency)} here, and {format_exact(draw.left, currency)} is left"
    ]
    if grant.meters:
        words.append(f"it pays for {', '.join(grant.meters)} only")
    elif grant.is_limited:
        words.append("it pays for usage only")
    if grant.expires_at is not None and grant.expires_at < min(bill.cutoff, bill.period.end):
        words.append("it has expired, and pays for what was used before that")
    return "; ".join(words)
