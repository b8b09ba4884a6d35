"""The final invoice of a subscription that ended: usage that came in after its last period was closed.

While a subscription goes on, late usage is an adjustment on its next invoice. After the end there is none, so once no
more can come, what is owed or given back since then gets an invoice of its own. Each subscription is settled once, and
without a difference there is no invoice.
"""

import logging
from datetime import datetime, timedelta

from django.conf import settings
from django.db import transaction

from accounts.errors import DomainError
from accounts.remembering import remembering
from billing import schedules
from billing.adjustments import FOLDING_MARGIN, adjustments_for, carried_in, carried_out
from billing.bill_credits import holdings_of, lock_holdings, with_credit
from billing.bills import Bill, settling_bill, with_line
from billing.drawing import is_usable
from billing.finalising import Closing, finalise
from billing.invoicing import Closed, lock, require_counted
from billing.models import Invoice, Subscription
from billing.owed import is_owed, with_owed_line
from billing.periods import Period

logger = logging.getLogger(__name__)

MOST_AT_ONCE = 200


def settle_ended(now: datetime) -> Closed:
    """Settle every subscription that can be; one that fails does not stop the others."""
    closed = Closed()
    due = Subscription.objects.filter(settled_at=None, ends_at__lte=now - late_reach())
    for subscription in due.select_related("organisation").order_by("pk")[:MOST_AT_ONCE]:
        try:
            invoice = settle(subscription, now)
        except DomainError as error:
            closed.waiting[subscription.public_id] = error.code
        except Exception:
            logger.exception("Settling subscription %s failed", subscription.public_id)
            closed.failed.append(subscription.public_id)
        else:
            closed.invoices += [invoice] if invoice else []
    return closed


def settle(subscription: Subscription, now: datetime) -> Invoice | None:
    """The final invoice, if there is something to put on it. Does nothing before late usage can no longer come, before
    every period is closed, and a second time. Raises UnfoldedEvents."""
    with remembering(anew=True), transaction.atomic():
        (locked,) = lock([subscription])
        if not _is_due(locked, now):
            return None
        require_counted(locked, until=now)
        lock_holdings([locked.organisation])
        bill = _final_bill(locked, now)
        invoices = finalise([Closing(locked, bill)], now) if bill else []
        locked.settled_at = now
        locked.save(update_fields=["settled_at"])
    return invoices[0] if invoices else None


def late_reach() -> timedelta:
    """How long after it was used usage can still come in and be counted."""
    return timedelta(days=settings.LATE_WINDOW_DAYS) + FOLDING_MARGIN


def _is_due(subscription: Subscription, now: datetime) -> bool:
    if subscription.settled_at is not None or subscription.ends_at is None:
        return False
    return subscription.ends_at + late_reach() <= now and schedules.earliest_open_period(subscription) is None


def _final_bill(subscription: Subscription, now: datetime) -> Bill | None:
    adjustments = adjustments_for(subscription)
    if not any(line.amount_exact for line in adjustments.lines):
        return None
    assert subscription.ends_at is not None
    bill = settling_bill(
        subscription,
        Period(subscription.ends_at, subscription.ends_at + late_reach()),
        cutoff=now,
        opening=carried_in(subscription),
        adjustments=adjustments.lines,
        rated_again=adjustments.rated_again,
    )
    usable = [one for one in holdings_of(subscription.organisation) if is_usable(one.grant, now)]
    if is_owed(subscription, bill):
        return with_owed_line(bill)
    paid = with_credit(bill, usable, bill_at=lambda _: bill)
    return with_line(paid, carried_out(paid)) if paid.is_too_small else paid
