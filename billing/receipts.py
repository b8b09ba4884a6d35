"""Sending receipts for credit that was paid, once each. The purchase is the queue.

A try is claimed before the message is sent, with one conditional update, so that two workers never send the same one;
a worker that dies in between leaves a claim that lapses, and the message is tried again.
"""

import logging
from datetime import datetime, timedelta

from django.db.models import F

from billing.emails import send_receipt
from billing.models import CreditPurchase

logger = logging.getLogger(__name__)

FIRST_PAUSE = timedelta(minutes=10)
LONGEST_PAUSE = timedelta(hours=12)
MOST_TRIES = 12
MOST_PER_SWEEP = 200


def send_due(*, now: datetime) -> int:
    """Send what is due, oldest first; how many went out. One refused address does not hold up the others."""
    due = CreditPurchase.objects.receipt_due(now).filter(receipt_tries__lt=MOST_TRIES).order_by("pk")
    return sum(_send(purchase, now) for purchase in due.select_related("organisation")[:MOST_PER_SWEEP])


def _send(purchase: CreditPurchase, now: datetime) -> bool:
    rows = CreditPurchase.objects.filter(pk=purchase.pk)
    pause = min(FIRST_PAUSE * 2**purchase.receipt_tries, LONGEST_PAUSE)
    unclaimed = CreditPurchase.objects.receipt_due(now).filter(pk=purchase.pk, receipt_tries=purchase.receipt_tries)
    if not unclaimed.update(receipt_tries=F("receipt_tries") + 1, next_receipt_at=now + pause):
        return False
    try:
        send_receipt(purchase, purchase.parties["buyer"]["email"])
    except OSError as error:
        logger.warning("The receipt of %s was not taken: %s", purchase.public_id, error)
        rows.update(last_error=str(error))
        return False
    rows.update(receipt_sent_at=now)
    return True
