"""Closing periods: which may be closed, one at somebody's word or all that have ended.

Each period is closed once, in order, by whoever comes first. What is written then is `finalising`'s business.
"""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import batched

from django.conf import settings
from django.db import connection, transaction
from django.db.models import F, Max, Q
from django.http import HttpRequest

from accounts.audit import Actor
from accounts.errors import DomainError
from accounts.remembering import remembering
from billing import schedules
from billing.adjustments import carried_out, look_up_charged_lines, still_adjustable, to_rate_again
from billing.bill_credits import lock_holdings
from billing.bills import Bill, with_line
from billing.finalising import Closing, finalise
from billing.models import Invoice, Subscription
from billing.open_bills import OpenPeriod, bill_with_credit
from billing.owed import is_owed, with_owed_line
from billing.periods import Period
from billing.plan_credits import grant_included
from billing.rated_usage import look_up_usage
from billing.unchanged import hold_still, look_up_changes
from metering import reports

logger = logging.getLogger(__name__)

BATCH = 200
# Periods that are closed in one transaction: few enough that nobody waits long for their locks (half a second), enough
# to share look-ups.
TOGETHER = 100
# A group is one sweep's at a time. This is only to share the work: that a period is closed once is up to the locks.
CLAIM = "SELECT pg_try_advisory_xact_lock(hashtext('billing_closing'), %s)"


class PeriodNotEnded(DomainError):
    code = "period_not_ended"
    sentence = "This period has not ended yet."


class StillInGrace(DomainError):
    code = "still_in_grace"
    sentence = "The period has ended, but late events are still waited for."


class UnfoldedEvents(DomainError):
    code = "unfolded_events"
    sentence = "Some events of this period are accepted but not counted yet. Try again in a moment."


class EarlierPeriodOpen(DomainError):
    code = "earlier_period_open"
    sentence = "An earlier period has to be closed first."


class NothingToClose(DomainError):
    code = "nothing_to_close"
    sentence = "Every period of this subscription is closed."


@dataclass(slots=True)
class Closed:
    """What one sweep did."""

    invoices: list[Invoice] = field(default_factory=list)
    # Public ids of subscriptions whose period could not be closed yet, with the reason's code.
    waiting: dict[str, str] = field(default_factory=dict)
    # Public ids of subscriptions where something broke; the log says what.
    failed: list[str] = field(default_factory=list)


def running_bill(subscription: Subscription, now: datetime, *, period: Period | None = None) -> Bill:
    """The bill of the current period (or another open one) as it stands: what closing would make of it now."""
    with remembering():
        return bill_with_credit(_open_period(subscription, now, period), now)


def bill_before_credit(subscription: Subscription, now: datetime, *, period: Period | None = None) -> Bill:
    """The same without what credit pays of it: what is charged, whoever pays."""
    with remembering():
        return _open_period(subscription, now, period).bill_at(now)


def _open_period(subscription: Subscription, now: datetime, period: Period | None) -> OpenPeriod:
    subscription = schedules.with_terms(subscription)
    return OpenPeriod(subscription, period or schedules.current_period(subscription, now))


def close_period(
    subscription: Subscription,
    *,
    period: Period | None = None,
    now: datetime,
    force_grace: bool = False,
    actor: Actor = None,
    request: HttpRequest | None = None,
) -> Invoice:
    """Finalise the earliest open period. A named period that is closed already answers with its invoice.

    Raises PeriodNotEnded, StillInGrace (unless `force_grace`), UnfoldedEvents, EarlierPeriodOpen and NothingToClose.
    """
    with remembering(anew=True), transaction.atomic():
        (locked,) = lock([subscription])
        existing = _invoice_of(locked, period)
        if existing is not None:
            return existing
        to_close = require_closable(locked, period=period, now=now, force_grace=force_grace)
        grant_included([locked], now)
        lock_holdings([locked.organisation])
        closing = Closing(locked, bill_to_close(locked, to_close, now))
        (invoice,) = finalise([closing], now, actor=actor, request=request)
    return invoice


def bill_to_close(subscription: Subscription, period: Period, now: datetime) -> Bill:
    """The running bill as closing would freeze it: credit pays, what is too small to charge is carried over, and what
    a last bill gives back is kept as credit."""
    bill = bill_with_credit(OpenPeriod(subscription, period), now, is_closing=True)
    if is_owed(subscription, bill):
        return with_owed_line(bill)
    return with_line(bill, carried_out(bill)) if bill.is_too_small else bill


def require_closable(
    subscription: Subscription, *, period: Period | None = None, now: datetime, force_grace: bool = False
) -> Period:
    """The earliest open period, if it can be closed now; raises what `close_period` raises. Changes nothing."""
    earliest = schedules.earliest_open_period(subscription)
    if earliest is None:
        raise NothingToClose
    if period is not None and period != earliest:
        raise EarlierPeriodOpen if period.start > earliest.start else NothingToClose
    if now < earliest.end:
        raise PeriodNotEnded
    if not force_grace and now < earliest.end + grace():
        raise StillInGrace
    require_counted(subscription, until=earliest.end)
    return earliest


def require_counted(subscription: Subscription, *, until: datetime) -> None:
    """Raises UnfoldedEvents while events of periods that the next bill rates are not in the totals."""
    starts = [invoice.period.start for invoice in still_adjustable(subscription)]
    earliest = schedules.earliest_open_period(subscription)
    starts += [earliest.start] if earliest is not None else []
    if starts and reports.pending_events(subscription.organisation, start=min(starts), end=until) > 0:
        raise UnfoldedEvents


def close_ended(now: datetime) -> Closed:
    """Close every period that can be closed, of every subscription; one that fails does not stop the others.

    Sweeps that run at once share the work: each passes over the groups that another is at.
    """
    closed = Closed()
    for group in batched(_open_subscriptions(), TOGETHER, strict=False):
        _close_group(group, now, closed)
    return closed


def grace() -> timedelta:
    return timedelta(seconds=settings.CLOSING_GRACE_SECONDS)


def _close_group(group: Sequence[Subscription], now: datetime, closed: Closed) -> None:
    """Close a period of each in one transaction, then of those that may have another. If that breaks, each by itself,
    so that one broken subscription holds up none of the others."""
    left = list(group)
    while left:
        try:
            left = _close_one_each(left, now, closed, claim=group[0].pk)
        except Exception:
            logger.warning("Closing %s periods together failed: going on one by one", len(left), exc_info=True)
            for subscription in left:
                _close_ended_periods(subscription, now, closed)
            return


def _close_one_each(
    subscriptions: Sequence[Subscription], now: datetime, closed: Closed, *, claim: int
) -> list[Subscription]:
    """Returns those to look at again. Of an organisation one subscription at a time: its invoices build on another."""
    first = {subscription.organisation_id: subscription for subscription in reversed(subscriptions)}
    later = [subscription for subscription in subscriptions if first[subscription.organisation_id] is not subscription]
    with remembering(anew=True), transaction.atomic():
        if not _claim(claim):
            return []
        locked = lock(list(first.values()))
        schedules.look_up_invoices([subscription.organisation for subscription in locked])
        look_up_changes((subscription, one) for subscription in locked for one in still_adjustable(subscription))
        look_up_charged_lines(locked)
        reports.look_up_pending([subscription.organisation for subscription in locked])
        grant_included(locked, now)
        lock_holdings([subscription.organisation for subscription in locked])
        look_up_usage(period for subscription in locked for period in _periods_to_rate(subscription, now))
        closings = [closing for subscription in locked if (closing := _closing(subscription, now, closed))]
        invoices = finalise(closings, now)
    closed.invoices += map(_lightened, invoices)
    return [*later, *(closing.subscription for closing in closings if _is_behind(closing, now))]


def _lightened(invoice: Invoice) -> Invoice:
    """A sweep of thousands need not keep all their evidence: Django reads it again where somebody asks for it."""
    del invoice.evidence
    return invoice


def _claim(number: int) -> bool:
    with connection.cursor() as cursor:
        cursor.execute(CLAIM, [number])
        return bool(cursor.fetchone()[0])


def _periods_to_rate(subscription: Subscription, now: datetime) -> list[tuple[Subscription, Period, datetime | None]]:
    """What closing the earliest open period, if it has ended, will ask `rate_period` for."""
    period = schedules.earliest_open_period(subscription)
    if period is None or period.end + grace() > now:
        return []
    earlier = [(subscription, one.period, one.prices_known_at) for one in to_rate_again(subscription)]
    return [(subscription, period, None), *earlier]


def _is_behind(closing: Closing, now: datetime) -> bool:
    """Whether another period has ended by now."""
    return schedules.period_after(closing.subscription, closing.bill.period).end + grace() <= now


def _closing(subscription: Subscription, now: datetime, closed: Closed) -> Closing | None:
    period = schedules.earliest_open_period(subscription)
    if period is None or period.end + grace() > now:
        return None
    try:
        return Closing(subscription, bill_to_close(subscription, require_closable(subscription, now=now), now))
    except DomainError as error:
        closed.waiting[subscription.public_id] = error.code
        return None


def _close_ended_periods(subscription: Subscription, now: datetime, closed: Closed) -> None:
    try:
        while (period := schedules.earliest_open_period(subscription)) and period.end + grace() <= now:
            closed.invoices.append(close_period(subscription, period=period, now=now))
    except DomainError as error:
        closed.waiting[subscription.public_id] = error.code
    except Exception:
        logger.exception("Closing a period of subscription %s failed", subscription.public_id)
        closed.failed.append(subscription.public_id)


def _open_subscriptions() -> Iterator[Subscription]:
    """Those with periods left, in batches by primary key, so that no cursor stays open while periods are closed."""
    with_periods_left = (
        Subscription.objects.annotate(closed_until=Max("invoices__period_end"))
        .filter(Q(ends_at=None) | Q(closed_until=None) | Q(closed_until__lt=F("ends_at")))
        .select_related("organisation")
        .order_by("pk")
    )
    last = 0
    while batch := list(with_periods_left.filter(pk__gt=last)[:BATCH]):
        yield from batch
        last = batch[-1].pk


def lock(subscriptions: Sequence[Subscription]) -> list[Subscription]:
    """Locks all subscriptions of their organisations, in order: a carried amount is taken up by one invoice only. And
    the organisations' totals: what is billed is what was read. Raises TotalsBeingMade."""
    rows = (
        Subscription.objects.filter(organisation__in=[subscription.organisation_id for subscription in subscriptions])
        .select_for_update(of=("self",))
        .select_related("organisation")
        .prefetch_related(*schedules.TERMS)
        .order_by("pk")
    )
    asked = {subscription.pk for subscription in subscriptions}
    locked = [row for row in rows if row.pk in asked]
    hold_still([subscription.organisation for subscription in locked])
    return locked


def _invoice_of(subscription: Subscription, period: Period | None) -> Invoice | None:
    if period is None:
        return None
    return Invoice.objects.filter(subscription=subscription, period_start=period.start).first()
