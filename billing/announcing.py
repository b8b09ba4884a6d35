"""Telling customers about new invoices, once each. The `InvoiceEmail` row is the queue.

A try is claimed before the message is sent, with one conditional update, so that two workers never send the same one;
a worker that dies in between leaves a claim that lapses, and the message is tried again.
"""

import logging
from datetime import datetime, timedelta

from django.db.models import F

from billing.emails import send_invoice_announcement
from billing.models import InvoiceEmail

logger = logging.getLogger(__name__)

FIRST_PAUSE = timedelta(minutes=10)
LONGEST_PAUSE = timedelta(hours=12)
MOST_TRIES = 12
MOST_PER_SWEEP = 200


def announce_due(*, now: datetime, limit: int = MOST_PER_SWEEP) -> int:
    """Send what is due, oldest first; how many went out. One refused address does not hold up the others."""
    due = InvoiceEmail.objects.due(now).filter(tries__lt=MOST_TRIES).order_by("pk").values_list("pk", flat=True)
    return sum(announce_invoice(invoice_id, now=now) for invoice_id in list(due[:limit]))


def announce_invoice(invoice_id: int, *, now: datetime) -> bool:
    """Send the e-mail of one invoice unless it is sent, or being sent, already. Whether it went out now."""
    email = InvoiceEmail.objects.select_related("invoice__organisation", "invoice__subscription").get(pk=invoice_id)
    pause = min(FIRST_PAUSE * 2**email.tries, LONGEST_PAUSE)
    claimed = InvoiceEmail.objects.due(now).filter(pk=invoice_id, tries=email.tries)
    if not claimed.update(tries=F("tries") + 1, next_try_at=now + pause):
        return False
    address = email.invoice.parties["buyer"]["email"]
    try:
        send_invoice_announcement(email.invoice, address)
    except OSError as error:
        logger.warning("The e-mail for invoice %s was not taken: %s", email.invoice.number, error)
        InvoiceEmail.objects.filter(pk=invoice_id).update(last_error=str(error))
        return False
    InvoiceEmail.objects.filter(pk=invoice_id).update(sent_at=now, sent_to=address, last_error="")
    return True
