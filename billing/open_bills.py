"""The bills of periods that have no invoice yet, in the order in which they are closed and so draw on credit.

What earlier invoices left over stands on the earliest of a subscription's open periods, and only there. Credit that a
bill would use is not there any more for those after it. Writes nothing.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from accounts.models import Organisation
from accounts.remembering import remembered
from billing import rating, schedules
from billing.adjustments import adjustments_for, carried_in
from billing.bill_credits import draws_on, holdings_of, lapses_of, with_credit
from billing.bills import Bill, build_bill
from billing.drawing import Draw, Holding, after
from billing.models import Subscription
from billing.periods import Period


@dataclass(frozen=True, slots=True)
class OpenPeriod:
    subscription: Subscription
    period: Period

    def bill_at(
        self, cutoff: datetime, *, until: datetime | None = None, coming: Sequence[rating.Reading] | None = None
    ) -> Bill:
        """What it comes to before credit; with `until`, what it came to then; with `coming`, what it would come to if
        this were used from then on."""
        subscription = self.subscription
        if self.period != schedules.earliest_open_period(subscription):
            return build_bill(subscription, self.period, cutoff=cutoff, until=until, coming=coming)
        adjustments = adjustments_for(subscription)
        return build_bill(
            subscription,
            self.period,
            cutoff=cutoff,
            opening=carried_in(subscription),
            adjustments=adjustments.lines,
            rated_again=adjustments.rated_again,
            until=until,
            coming=coming,
        )


@dataclass(frozen=True, slots=True)
class Drawn:
    """An open bill before credit, what grants would pay of it, what lapses with its period, and what credit is left."""

    bill: Bill
    draws: tuple[Draw, ...]
    lapses: tuple[Draw, ...]
    left: tuple[Holding, ...]


def bill_with_credit(open_period: OpenPeriod, now: datetime, *, is_closing: bool = False) -> Bill:
    """The bill of an open period, paid as far as credit reaches: by what bills before it leave, or when it is closed,
    which nobody waits with for the others', by all that is left."""
    bill = open_period.bill_at(now)
    available = holdings_of(open_period.subscription.organisation)
    if not available:
        return bill
    if not is_closing:
        available = _left_for(open_period, available, now)
    paid = with_credit(bill, available, bill_at=lambda until: open_period.bill_at(now, until=until))
    lapses = lapses_of(after(available, paid.draws), open_period.subscription, open_period.period)
    return replace(paid, lapses=tuple(lapses))


def drawn_bills(organisation: Organisation, currency: str, now: datetime) -> Iterator[Drawn]:
    """Every open bill in the currency, each with the credit that those before it leave."""
    holdings = holdings_of(organisation)
    for one in open_periods(organisation, currency, now):
        yield (drawn := _drawn(one, holdings, now))
        holdings = drawn.left


def open_periods(
    organisation: Organisation, currency: str, now: datetime, *, known: Subscription | None = None
) -> list[OpenPeriod]:
    """Those that have begun, of all subscriptions, in the order of their ends. `known` need not be read again."""
    others = _others(organisation, currency, known)
    subscriptions = others if known is None else (*others, known)
    found = [OpenPeriod(one, period) for one in subscriptions for period in _periods(one, now)]
    return sorted(found, key=_closing_order)


@remembered
def _others(organisation: Organisation, currency: str, known: Subscription | None) -> tuple[Subscription, ...]:
    rows = Subscription.objects.for_organisation(organisation).filter(currency=currency)
    rows = rows if known is None else rows.exclude(pk=known.pk)
    return tuple(rows.select_related("organisation").prefetch_related(*schedules.TERMS))


def _periods(subscription: Subscription, now: datetime) -> Iterator[Period]:
    period = schedules.earliest_open_period(subscription)
    while period is not None and period.start <= now:
        yield period
        period = schedules.period_after(subscription, period) if schedules.goes_on_after(subscription, period) else None


def _left_for(open_period: OpenPeriod, holdings: tuple[Holding, ...], now: datetime) -> tuple[Holding, ...]:
    subscription = open_period.subscription
    for one in open_periods(subscription.organisation, subscription.currency, now, known=subscription):
        if _closing_order(one) >= _closing_order(open_period):
            break
        holdings = _drawn(one, holdings, now).left
    return holdings


def _drawn(one: OpenPeriod, holdings: tuple[Holding, ...], now: datetime) -> Drawn:
    bill = one.bill_at(now)
    draws = draws_on(bill, holdings, bill_at=lambda until: one.bill_at(now, until=until))
    left = after(holdings, draws)
    lapses = lapses_of(left, one.subscription, one.period) if one.period.end <= now else ()
    return Drawn(bill, tuple(draws), tuple(lapses), after(left, lapses))


def _closing_order(one: OpenPeriod) -> tuple[datetime, int]:
    return one.period.end, one.subscription.pk
