"""What Stripe tells, in whatever order and however often: stored once, applied to the invoice's true state."""

import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
import stripe as stripe_sdk
from django.test import Client
from django.utils import timezone

from billing.credit_checks import check_credits
from billing.crediting import grant_credit
from billing.holdings import remaining
from billing.models import LedgerTransaction, StripeEvent
from billing.models.invoices import InvoiceState
from billing.sandbox.errors import StripeError
from billing.stripe_inbox import MOST_TRIES, apply_event, apply_unhandled, fetch_missed
from billing.stripe_sync import push_invoice
from tests.billing.billing_builders import pay_by_credit
from tests.billing.stripe.conftest import NOW, WEBHOOK_SECRET

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def hook(sandbox, live_server):
    """The sandbox holds its events back and sends them to the running product when told."""
    sandbox.post_control("webhooks", url=f"{live_server.url}/stripe/webhook/", secret=WEBHOOK_SECRET, hold=True)
    return sandbox


@pytest.fixture
def paid_invoice(hook, finalised_invoice):
    """Pushed, and paid at Stripe; nothing was delivered yet."""
    invoice = finalised_invoice(amounts=[1500])
    push = push_invoice(invoice.pk, now=NOW)
    hook.post_control("pay", invoice=push.stripe_id, payment_method="pm_card_visa")
    return invoice


def held_events(hook) -> list[str]:
    return [event["id"] for event in hook.get_control("objects", type="event")]


def test_payment_shows_once_its_events_are_delivered(hook, paid_invoice):
    paid_invoice.refresh_from_db()
    assert paid_invoice.state == InvoiceState.PUSHED
    hook.post_control("deliver")
    apply_unhandled(now=timezone.now())
    paid_invoice.refresh_from_db()
    assert (paid_invoice.state, paid_invoice.amount_paid_minor) == (InvoiceState.PAID, 1500)
    assert paid_invoice.paid_at is not None


def test_events_reversed_repeated_and_together_end_in_the_same_state(hook, paid_invoice):
    hook.post_control("deliver", order=list(reversed(held_events(hook))), repeat=4, together=True)
    apply_unhandled(now=timezone.now())
    apply_unhandled(now=timezone.now())
    paid_invoice.refresh_from_db()
    assert paid_invoice.state == InvoiceState.PAID
    assert StripeEvent.objects.count() == len(held_events(hook))
    assert not StripeEvent.objects.filter(handled_at=None).exists()


def test_every_delivery_is_answered_with_200(hook, paid_invoice):
    hook.post_control("deliver", repeat=2)
    answers = {note["status"] for note in hook.get_control("journal") if "webhook" in note}
    assert answers == {200}


def test_deliveries_that_never_came_are_fetched(hook, paid_invoice):
    assert fetch_missed(now=timezone.now()) > 0
    assert fetch_missed(now=timezone.now()) == 0
    apply_unhandled(now=timezone.now())
    paid_invoice.refresh_from_db()
    assert paid_invoice.state == InvoiceState.PAID


def test_voided_at_stripe_is_void_here(hook, finalised_invoice):
    invoice = finalised_invoice()
    push = push_invoice(invoice.pk, now=NOW)
    stripe_sdk.StripeClient("sk_test_kilotoken", base_addresses={"api": hook.url}).v1.invoices.void_invoice(
        push.stripe_id
    )
    hook.post_control("deliver")
    apply_unhandled(now=timezone.now())
    invoice.refresh_from_db()
    assert invoice.state == InvoiceState.VOID


def test_a_declined_card_leaves_the_invoice_open(hook, finalised_invoice):
    invoice = finalised_invoice()
    push = push_invoice(invoice.pk, now=NOW)
    with pytest.raises(StripeError, match="declined"):
        hook.post_control("pay", invoice=push.stripe_id, payment_method="pm_card_chargeDeclined")
    hook.post_control("deliver")
    apply_unhandled(now=timezone.now())
    invoice.refresh_from_db()
    assert invoice.state == InvoiceState.PUSHED


def test_an_event_that_overtakes_our_commit_waits(hook, finalised_invoice):
    invoice = finalised_invoice()
    event = StripeEvent.objects.create(
        id="evt_early",
        type="invoice.finalized",
        created_at=datetime.now(UTC),
        object_id="in_unknown",
        payload={"data": {"object": {"id": "in_unknown", "metadata": {"kilotoken_invoice": invoice.number}}}},
    )
    applied = apply_event(event.pk, now=NOW)
    assert applied.handled_at is None
    for _ in range(MOST_TRIES):
        applied = apply_event(event.pk, now=NOW) or applied
    assert applied.handled_at is not None


def test_an_invoice_of_other_software_is_left_alone(hook, finalised_invoice):
    event = StripeEvent.objects.create(
        id="evt_foreign",
        type="invoice.paid",
        created_at=datetime.now(UTC),
        object_id="in_foreign",
        payload={"data": {"object": {"id": "in_foreign", "metadata": {}}}},
    )
    assert apply_event(event.pk, now=NOW).handled_at == NOW


def signed(body: bytes, *, secret: str = WEBHOOK_SECRET, age: timedelta = timedelta(0)) -> str:
    stamp = int((datetime.now(UTC) - age).timestamp())
    signature = stripe_sdk.WebhookSignature._compute_signature(f"{stamp}.{body.decode()}", secret)
    return f"t={stamp},v1={signature}"


def webhook_body(**changes) -> bytes:
    event = {
        "id": "evt_1",
        "object": "event",
        "type": "invoice.paid",
        "created": int(datetime.now(UTC).timestamp()),
        "livemode": False,
        "api_version": "2024-06-20",
        "data": {"object": {"id": "in_1", "object": "invoice", "customer_name": "Ацме GmbH"}},
    }
    return json.dumps({**event, **changes}, indent=3, ensure_ascii=False).encode()


def post(body: bytes, signature: str | None):
    headers = {} if signature is None else {"Stripe-Signature": signature}
    return Client().post("/stripe/webhook/", body, content_type="application/json", headers=headers)


def test_odd_spacing_and_other_alphabets_keep_their_signature(sandbox):
    body = webhook_body()
    assert post(body, signed(body)).status_code == 200
    assert StripeEvent.objects.get().object_id == "in_1"


@pytest.mark.parametrize(
    "signature",
    [
        None,
        "",
        "t=1,v1=00",
        signed(webhook_body(), secret="whsec_other"),
        signed(webhook_body(), age=timedelta(minutes=6)),
    ],
    ids=["missing", "empty", "nonsense", "other secret", "too old"],
)
def test_what_stripe_did_not_sign_is_refused_and_not_stored(sandbox, signature):
    assert post(webhook_body(), signature).status_code == 400
    assert not StripeEvent.objects.exists()


def test_the_old_secret_still_counts_while_secrets_are_rotated(sandbox, settings):
    settings.STRIPE_WEBHOOK_SECRETS = ["whsec_new", WEBHOOK_SECRET]
    body = webhook_body()
    assert post(body, signed(body)).status_code == 200


def test_an_event_of_the_other_mode_is_refused(sandbox):
    body = webhook_body(livemode=True)
    assert post(body, signed(body)).status_code == 400
    assert not StripeEvent.objects.exists()


def test_only_post_is_answered(sandbox):
    assert Client().get("/stripe/webhook/").status_code == 405


def test_credit_comes_back_from_an_invoice_that_is_void(hook, finalised_invoice):
    invoice = finalised_invoice(amounts=[1234, -234])
    grant = grant_credit(
        invoice.organisation, kind="manual", amount=Decimal("2.34"), currency="USD", reason="Goodwill", now=NOW
    )
    pay_by_credit(invoice, "2.34", NOW)
    push = push_invoice(invoice.pk, now=NOW)
    assert remaining([grant])[grant.pk] == 0
    stripe_sdk.StripeClient("sk_test_kilotoken", base_addresses={"api": hook.url}).v1.invoices.void_invoice(
        push.stripe_id
    )

    for _ in range(2):
        hook.post_control("deliver")
        apply_unhandled(now=timezone.now())

    assert remaining([grant])[grant.pk] == Decimal("2.34")
    assert list(LedgerTransaction.objects.filter(invoice=invoice).values_list("kind", flat=True)) == [
        "used", "returned",
    ]  # fmt: skip
    assert check_credits() == []
