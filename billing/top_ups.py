"""Buying credit at Stripe: the purchase is a row of ours first, then a Checkout session, then a grant, once.

What Stripe's events say is only a hint: the session is looked at and its state written under the row's lock, so that
however often and in whatever order they come, a payment leads to exactly one grant. A refund takes back what is left.
"""

import logging
from datetime import datetime, timedelta
from decimal import Decimal

from django.conf import settings
from django.db import transaction
from django.db.models import F, Q
from django.http import HttpRequest

from accounts.audit import Actor, record
from accounts.errors import DomainError
from accounts.models import Organisation
from billing import stripe_gateway as stripe
from billing.crediting import NothingLeft, grant_credit, reverse_grant
from billing.models import CreditGrant, CreditPurchase, GrantKind, PurchaseState
from billing.money import format_money, minor_to_decimal, round_to_minor
from billing.payers import parties_of
from billing.stripe_sync import customer_for, note_missing_customer
from billing.subscribing import current_subscription, ensure_billing_details
from billing.top_up_amounts import Amounts, amounts_in, require_buyable

logger = logging.getLogger(__name__)

USUAL_CURRENCY = "USD"
# Stripe ends a session after a day. One whose making was never answered was seen by nobody.
SESSION_LIFE = timedelta(days=1)
CHECK_EVERY = timedelta(minutes=5)
MOST_PER_SWEEP = 200


class TopUpsOff(DomainError):
    code = "top_ups_off"
    sentence = "Credit cannot be bought here. Ask your provider."


class AlreadyDecided(DomainError):
    code = "already_decided"
    sentence = "This purchase is over: nothing is left to cancel."


def top_ups_are_on() -> bool:
    return bool(settings.CREDIT_TOP_UPS) and stripe.is_configured()


def amounts_for(organisation: Organisation, now: datetime) -> Amounts:
    """In the currency of the organisation's bills."""
    subscription = current_subscription(organisation, now)
    return amounts_in(subscription.currency if subscription else USUAL_CURRENCY)


def start_purchase(
    organisation: Organisation,
    amount: Decimal,
    *,
    now: datetime,
    actor: Actor = None,
    request: HttpRequest | None = None,
) -> CreditPurchase:
    """The row that a payment will refer to. Raises TopUpsOff and AmountRefused."""
    if not top_ups_are_on():
        raise TopUpsOff
    amounts = amounts_for(organisation, now)
    minor = require_buyable(amount, amounts)
    with transaction.atomic():
        purchase: CreditPurchase = CreditPurchase.objects.create(
            organisation=organisation,
            environment=settings.STRIPE_ENVIRONMENT,
            amount_minor=minor,
            currency=amounts.currency,
            parties=parties_of(organisation, ensure_billing_details(organisation)),
            created_at=now,
        )
        _audit("credit.purchase_started", purchase, actor=actor, request=request)
    return purchase


def open_checkout(purchase: CreditPurchase, *, page_url: str) -> str:
    """The address at Stripe where it is paid; it leads back to `page_url`. Raises StripeFailure, and keeps why.

    Not to be called in a transaction. The key makes a second try find the session of the first.
    """
    try:
        return stripe.retrieve_checkout(purchase.stripe_id).url if purchase.stripe_id else _opened(purchase, page_url)
    except stripe.StripeFailure as failure:
        CreditPurchase.objects.filter(pk=purchase.pk).update(last_error=str(failure))
        raise


def check_purchase(pk: int, *, now: datetime, session: str = "") -> CreditPurchase:
    """Ask Stripe what became of a purchase and write it down; `session` where an event named one we do not know."""
    purchase: CreditPurchase = CreditPurchase.objects.get(pk=pk)
    known = purchase.stripe_id or session
    if not known:
        return purchase
    remote = stripe.retrieve_checkout(known)
    with transaction.atomic():
        purchase = CreditPurchase.objects.select_for_update(no_key=True).get(pk=pk)
        purchase.stripe_id, purchase.checked_at, purchase.last_error = known, now, ""
        if purchase.state not in (PurchaseState.PAID, PurchaseState.MISMATCH):
            _decide(purchase, remote, now)
        purchase.save()
    # A refund whose event came before the payment was booked found nothing to take back from.
    return check_refunds(pk, now=now) if purchase.state == PurchaseState.PAID else purchase


def check_open(*, now: datetime) -> int:
    """Ask about purchases whose events may have been lost, those not asked about for longest first; how many."""
    if not stripe.is_configured():
        return 0
    undecided = CreditPurchase.objects.undecided().filter(environment=settings.STRIPE_ENVIRONMENT)
    never_answered = undecided.filter(stripe_id=None, created_at__lt=now - SESSION_LIFE)
    never_answered.update(state=PurchaseState.ENDED, checked_at=now)
    due = undecided.filter(Q(checked_at=None) | Q(checked_at__lte=now - CHECK_EVERY), stripe_id__isnull=False)
    pks = list(due.order_by(F("checked_at").asc(nulls_first=True), "pk").values_list("pk", flat=True)[:MOST_PER_SWEEP])
    for pk in pks:
        try:
            check_purchase(pk, now=now)
        except stripe.StripeFailure as failure:
            CreditPurchase.objects.filter(pk=pk).update(checked_at=now, last_error=str(failure))
            logger.warning("Purchase %s could not be checked: %s", pk, failure)
    return len(pks)


def cancel_purchase(
    purchase: CreditPurchase, *, now: datetime, actor: Actor = None, request: HttpRequest | None = None
) -> CreditPurchase:
    """End it at Stripe, so that nobody pays it any more. Raises AlreadyDecided and StripeFailure."""
    if purchase.state != PurchaseState.OPEN:
        raise AlreadyDecided
    if purchase.stripe_id:
        try:
            stripe.expire_checkout(purchase.stripe_id)
        except stripe.Refused:  # paid or expired meanwhile: looking tells
            logger.info("Purchase %s could not be ended at Stripe", purchase.public_id)
        purchase = check_purchase(purchase.pk, now=now)
    else:
        CreditPurchase.objects.filter(pk=purchase.pk, state=PurchaseState.OPEN).update(state=PurchaseState.ENDED)
        purchase.refresh_from_db()
    if purchase.state != PurchaseState.ENDED:
        raise AlreadyDecided
    _audit("credit.purchase_cancelled", purchase, actor=actor, request=request)
    return purchase


def check_refunds(pk: int, *, now: datetime) -> CreditPurchase:
    """Take back as much of the credit as was refunded at Stripe since, as far as it is left."""
    purchase: CreditPurchase = CreditPurchase.objects.get(pk=pk)
    if purchase.state != PurchaseState.PAID or not purchase.payment_intent:
        return purchase
    refunded = stripe.refunded_amount(purchase.payment_intent)
    with transaction.atomic():
        purchase = CreditPurchase.objects.select_for_update(no_key=True).get(pk=pk)
        more = refunded - purchase.refunded_minor
        if more > 0:
            purchase.refunded_minor = refunded
            purchase.taken_back_minor += _taken_back(purchase, more, now)
            purchase.save(update_fields=["refunded_minor", "taken_back_minor"])
    return purchase


def _opened(purchase: CreditPurchase, page_url: str) -> str:
    customer = customer_for(purchase.organisation_id, purchase.currency, purchase.parties["buyer"])
    new = stripe.NewCheckout(
        customer=customer,
        purchase=purchase.public_id,
        amount=purchase.amount_minor,
        currency=purchase.currency,
        description="Credit for future bills",
        return_url=page_url,
    )
    key = f"kilotoken:{purchase.environment}:{purchase.public_id}:checkout"
    try:
        remote = stripe.create_checkout(new, key=key)
    except stripe.Refused as refusal:
        note_missing_customer(customer, refusal)
        raise
    CreditPurchase.objects.filter(pk=purchase.pk, stripe_id=None).update(stripe_id=remote.id)
    return remote.url


def _decide(purchase: CreditPurchase, remote: stripe.RemoteCheckout, now: datetime) -> None:
    if remote.payment_status == "paid":
        if _is_ours(purchase, remote):
            _book(purchase, remote, now)
        else:
            purchase.state = PurchaseState.MISMATCH
            purchase.last_error = f"Stripe says {remote.amount} {remote.currency} for {remote.purchase or 'nobody'}."
            logger.error("Purchase %s differs at Stripe: %s", purchase.public_id, purchase.last_error)
    elif remote.status == "expired":
        purchase.state = PurchaseState.ENDED
    elif remote.status == "complete":
        purchase.state = PurchaseState.ENDED if remote.has_failed else PurchaseState.PROCESSING


def _is_ours(purchase: CreditPurchase, remote: stripe.RemoteCheckout) -> bool:
    theirs = (remote.purchase, remote.amount, remote.currency)
    return theirs == (purchase.public_id, purchase.amount_minor, purchase.currency)


def _book(purchase: CreditPurchase, remote: stripe.RemoteCheckout, now: datetime) -> None:
    """Once: the caller holds the row's lock and has seen that it is not paid."""
    purchase.state, purchase.paid_at, purchase.payment_intent = PurchaseState.PAID, now, remote.payment_intent
    local = now.astimezone(purchase.organisation.zone)
    purchase.grant = grant_credit(
        purchase.organisation,
        kind=GrantKind.PURCHASED,
        amount=minor_to_decimal(purchase.amount_minor, purchase.currency),
        currency=purchase.currency,
        reason=f"Bought on {local.day} {local:%B %Y}",
        now=now,
        actor="stripe",
    )
    _audit("credit.purchased", purchase, actor="stripe")


def _taken_back(purchase: CreditPurchase, minor: int, now: datetime) -> int:
    """How much of a refund was still there to be taken off the credit, in minor units."""
    grant = CreditGrant.objects.get(purchase=purchase)
    try:
        taken = reverse_grant(grant, at_most=minor_to_decimal(minor, purchase.currency), now=now, actor="stripe")
    except NothingLeft:
        return 0
    return round_to_minor(taken, purchase.currency)


def _audit(action: str, purchase: CreditPurchase, *, actor: Actor, request: HttpRequest | None = None) -> None:
    record(
        action,
        organisation=purchase.organisation,
        actor=actor,
        subject_id=purchase.public_id,
        subject_label=format_money(purchase.amount_minor, purchase.currency),
        request=request,
    )
