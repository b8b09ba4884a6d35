"""Pushing finalised invoices to Stripe and taking back what became of them. Exactly once, whatever is killed when.

Every run looks before it acts, so nothing depends on how long Stripe remembers an idempotency key; the keys, made from
our own rows, close the gap between two runs close together. A draft is compared with our lines before it is finalised.
Our database is the truth about amounts, Stripe about payment: a webhook is a hint to go and look.

One worker at a time acts on an invoice: an advisory lock of the session is held across the calls, while no transaction
is open. (Behind PgBouncer use session pooling for the workers.)
"""

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime, timedelta
from itertools import batched

from django.conf import settings
from django.db import connection, transaction

from accounts.errors import DomainError
from billing import stripe_gateway as stripe
from billing.crediting import return_credit
from billing.models import Invoice, StripeCustomer, StripeInvoice
from billing.models.invoices import InvoiceState
from billing.models.stripe_mirror import PushState
from billing.stripe_lines import digest_of_lines, remote_lines

logger = logging.getLogger(__name__)

# Stripe's clock and ours may differ: look a little further back than the first try.
CLOCK_MARGIN = timedelta(minutes=10)
# Past this, "was it sent?" can no longer be answered by an idempotency key, which lives 24 hours.
KEY_LIFE = timedelta(hours=20)
FIRST_WAIT = timedelta(seconds=15)
LONGEST_WAIT = timedelta(hours=1)
MOST_PER_SWEEP = 200

INVOICE_STATES = {
    "open": InvoiceState.PUSHED,
    "paid": InvoiceState.PAID,
    "void": InvoiceState.VOID,
    "uncollectible": InvoiceState.UNCOLLECTIBLE,
}


class NotYetAtStripe(DomainError):
    code = "not_yet_at_stripe"
    sentence = "This invoice is still being prepared for payment. Try again in a minute."


class Mismatch(Exception):
    """Stripe's figures differ from ours. Nothing is tried again until a person has looked."""


def push_waiting(*, now: datetime, limit: int = MOST_PER_SWEEP) -> list[StripeInvoice]:
    """Push every invoice whose turn it is, oldest first; one that fails does not hold up the others."""
    if not stripe.is_configured():
        return []
    due = StripeInvoice.objects.filter(state=PushState.WAITING).exclude(next_try_at__gt=now).order_by("pk")
    return [push_invoice(push.pk, now=now) for push in due[:limit]]


def push_invoice(invoice_id: int, *, now: datetime) -> StripeInvoice:
    """Bring one invoice to Stripe, from wherever an earlier try stopped. Safe to call at any time, by any number."""
    with _only_worker(invoice_id) as alone:
        push = StripeInvoice.objects.select_related("invoice__organisation").get(pk=invoice_id)
        if alone and push.state == PushState.WAITING:
            _push(push, now=now)
    return push


def refresh_invoice(invoice_id: int, *, now: datetime) -> StripeInvoice:
    """Ask Stripe for the state of a pushed invoice and write it down."""
    with _only_worker(invoice_id, wait=True):
        push = StripeInvoice.objects.get(pk=invoice_id)
        if push.stripe_id:
            _record(push, stripe.retrieve_invoice(push.stripe_id), now=now)
    return push


def hosted_payment_url(invoice: Invoice) -> str:
    """The page where the customer pays. Fetched when somebody clicks, since such addresses expire."""
    push = StripeInvoice.objects.filter(invoice=invoice, state=PushState.PUSHED).first()
    if push is None or not push.stripe_id:
        raise NotYetAtStripe
    return stripe.retrieve_invoice(push.stripe_id).hosted_url


def customer_for(organisation_id: int, currency: str, buyer: Mapping[str, str]) -> str:
    """The id of the organisation's customer at Stripe for a currency, made under the buyer's name where it is new."""
    row, _ = StripeCustomer.objects.get_or_create(
        organisation_id=organisation_id,
        environment=settings.STRIPE_ENVIRONMENT,
        currency=currency,
        defaults={"name": buyer["name"], "email": buyer["email"]},
    )
    if row.is_missing:
        raise stripe.Refused("The customer was deleted at Stripe: decide in the admin whether to make a new one.")
    if row.stripe_id is None:
        new = stripe.NewCustomer(organisation=_customer_tag(row), name=row.name, email=row.email)
        parts = ("customer", new.organisation, str(row.generation), "create")
        row.stripe_id = stripe.find_customer(new) or stripe.create_customer(new, key=_key_of(*parts))
        row.save(update_fields=["stripe_id"])
    return row.stripe_id


def note_missing_customer(stripe_id: str, refusal: stripe.Refused) -> None:
    """Keep that a customer was deleted at Stripe, if that is why a call was refused: a person decides then."""
    if refusal.is_missing_customer:
        StripeCustomer.objects.filter(stripe_id=stripe_id).update(is_missing=True)


def _push(push: StripeInvoice, *, now: datetime) -> None:
    try:
        if push.first_try_at is None:  # the intention, before any call
            push.first_try_at = now
            push.save(update_fields=["first_try_at"])
        remote = _deliver(push, now=now)
    except stripe.TemporaryFailure as failure:
        _try_later(push, str(failure), now=now)
    except stripe.Refused as refusal:
        _stop(push, PushState.REFUSED, str(refusal))
    except Mismatch as mismatch:
        _stop(push, PushState.MISMATCH, str(mismatch))
    else:
        _record(push, remote, now=now, pushed=True)


def _deliver(push: StripeInvoice, *, now: datetime) -> stripe.RemoteInvoice:
    """Customer, draft, lines, comparison, finalising, sending: each step only if it is not done yet."""
    invoice = push.invoice
    customer = customer_for(invoice.organisation_id, invoice.currency, invoice.parties["buyer"])
    remote = _draft(push, customer=customer)
    if remote.status == "draft":
        _add_missing_lines(push)
        _require_equal(push, stripe.retrieve_invoice(remote.id))
        remote = stripe.finalise_invoice(remote.id, key=_key(push, "finalise"))
        _require_total(push, remote)
    if remote.status == "open" and push.sent_at is None and not _was_sent(push, now=now):
        remote = stripe.send_invoice(remote.id, key=_key(push, "send"))
    push.sent_at = push.sent_at or now
    return remote


def _customer_tag(row: StripeCustomer) -> str:
    """What the metadata says of a customer: Stripe locks each to one currency, hence the currency."""
    generation = f":{row.generation}" if row.generation > 1 else ""
    return f"{row.organisation.public_id}:{row.currency}{generation}"


def _draft(push: StripeInvoice, *, customer: str) -> stripe.RemoteInvoice:
    if push.stripe_id:
        return stripe.retrieve_invoice(push.stripe_id)
    invoice = push.invoice
    lines = remote_lines(list(invoice.lines.all()))
    new = stripe.NewInvoice(
        customer=customer,
        number=invoice.number,
        currency=invoice.currency,
        days_until_due=max((invoice.due_at - invoice.finalised_at).days, 1),
        description=f"{invoice.plan_name}, {invoice.period_start:%d %b %Y} to {invoice.period_end:%d %b %Y} (UTC)",
        digest=digest_of_lines(lines)[:32],
    )
    since = (push.first_try_at or invoice.finalised_at) - CLOCK_MARGIN
    remote = stripe.find_invoice(customer, number=invoice.number, since=since) or _created(push, new)
    push.stripe_id, push.digest = remote.id, digest_of_lines(lines)
    push.save(update_fields=["stripe_id", "digest"])
    return remote


def _created(push: StripeInvoice, new: stripe.NewInvoice) -> stripe.RemoteInvoice:
    try:
        return stripe.create_invoice(new, key=_key(push, "create"))
    except stripe.Refused as refusal:
        note_missing_customer(new.customer, refusal)
        raise


def _add_missing_lines(push: StripeInvoice) -> None:
    assert push.stripe_id is not None
    there = stripe.list_lines(push.stripe_id)
    wanted = remote_lines(list(push.invoice.lines.all()))
    for chunk in batched(
        wanted, stripe.LINES_PER_CALL, strict=False
    ):  # the same chunks, hence the same keys, every time
        if any(line.key not in there for line in chunk):
            stripe.add_lines(push.stripe_id, chunk, key=_key(push, "lines", chunk[0].key, chunk[-1].key))


def _require_equal(push: StripeInvoice, remote: stripe.RemoteInvoice) -> None:
    """Line for line, in total and in currency; a draft that differs is thrown away for a person to look."""
    invoice = push.invoice
    there = stripe.list_lines(remote.id)
    ours = {line.key: line.amount for line in remote_lines(list(invoice.lines.all()))}
    if there == ours and remote.total == invoice.total_minor and _is_ours(invoice, remote):
        return
    stripe.delete_draft(remote.id)
    StripeInvoice.objects.filter(pk=push.pk).update(generation=push.generation + 1, stripe_id=None)
    push.refresh_from_db(fields=["generation", "stripe_id"])
    raise Mismatch(
        f"The draft at Stripe came to {remote.total} {remote.currency} in {len(there)} lines, "
        f"the invoice to {invoice.total_minor} {invoice.currency} in {len(ours)}. The draft was deleted."
    )


def _is_ours(invoice: Invoice, remote: stripe.RemoteInvoice) -> bool:
    return remote.currency == invoice.currency and not remote.has_discounts


def _require_total(push: StripeInvoice, remote: stripe.RemoteInvoice) -> None:
    if remote.total == push.invoice.total_minor:
        return
    stripe.void_invoice(remote.id, key=_key(push, "void"))
    raise Mismatch(f"Finalised at Stripe as {remote.total}, ours is {push.invoice.total_minor}. It was voided there.")


def _was_sent(push: StripeInvoice, *, now: datetime) -> bool:
    """Whether an earlier run sent it and died before writing that down; the key answers that for the first day."""
    assert push.first_try_at is not None
    if now - push.first_try_at < KEY_LIFE:
        return False
    events = stripe.list_events(since=push.first_try_at - CLOCK_MARGIN, types=["invoice.sent"])
    return any(event.object_id == push.stripe_id for event in events)


def _record(push: StripeInvoice, remote: stripe.RemoteInvoice, *, now: datetime, pushed: bool = False) -> None:
    """Write down what Stripe says, on the mirror and on the invoice, together."""
    with transaction.atomic():
        invoice = Invoice.objects.select_for_update().get(pk=push.pk)
        push.remote_status, push.remote_total, push.hosted_url = remote.status, remote.total, remote.hosted_url
        if pushed:
            push.state, push.last_error, push.next_try_at = PushState.PUSHED, "", None
        push.save()
        if remote.status in INVOICE_STATES:
            invoice.state = INVOICE_STATES[remote.status]
            invoice.amount_paid_minor = remote.amount_paid
            invoice.paid_at = remote.paid_at if remote.status == "paid" else None
            invoice.save(update_fields=["state", "amount_paid_minor", "paid_at"])
            if invoice.state == InvoiceState.VOID:
                return_credit(invoice, now)


def _try_later(push: StripeInvoice, reason: str, *, now: datetime) -> None:
    push.tries += 1
    push.next_try_at = now + min(FIRST_WAIT * 2 ** min(push.tries - 1, 10), LONGEST_WAIT)
    push.last_error = reason
    push.save(update_fields=["tries", "next_try_at", "last_error"])
    logger.warning("Push of %s failed for now: %s", push.invoice.number, reason)


def _stop(push: StripeInvoice, state: PushState, reason: str) -> None:
    push.state, push.last_error = state, reason
    push.save(update_fields=["state", "last_error"])
    logger.error("Push of %s stopped (%s): %s", push.invoice.number, state, reason)


def _key(push: StripeInvoice, *parts: str) -> str:
    return _key_of("invoice", push.invoice.public_id, str(push.generation), *parts)


def _key_of(*parts: str) -> str:
    """An idempotency key: from our rows only, stable over releases, at most 255 characters, nothing personal."""
    return ":".join(("kilotoken", settings.STRIPE_ENVIRONMENT, *parts))


@contextmanager
def _only_worker(invoice_id: int, *, wait: bool = False) -> Iterator[bool]:
    """Hold the invoice's lock for this session; the server lets go of it if the worker dies. Yields whether held."""
    lock = [f"kilotoken:stripe-invoice:{invoice_id}"]
    with connection.cursor() as cursor:
        if wait:
            cursor.execute("SELECT pg_advisory_lock(hashtextextended(%s, 0))", lock)
            held = True
        else:
            cursor.execute("SELECT pg_try_advisory_lock(hashtextextended(%s, 0))", lock)
            held = bool(cursor.fetchone()[0])
    try:
        yield held
    finally:
        if held:
            with connection.cursor() as cursor:
                cursor.execute("SELECT pg_advisory_unlock(hashtextextended(%s, 0))", lock)
