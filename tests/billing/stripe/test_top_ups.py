"""Buying credit: one payment leads to one grant, however its news come; what is not paid leads to none."""

import urllib.parse
import urllib.request
from datetime import timedelta
from decimal import Decimal

import pytest
import stripe as stripe_sdk
from django.core import mail
from django.utils import timezone

from accounts.models import AuditEntry
from billing import stripe_gateway
from billing.crediting import balance, remaining
from billing.models import CreditGrant, CreditPurchase, PurchaseState, StripeCustomer
from billing.receipts import send_due
from billing.stripe_inbox import ALL_TYPES, apply_unhandled, fetch_missed
from billing.top_up_amounts import AmountRefused, amounts_in, require_buyable
from billing.top_ups import (
    AlreadyDecided,
    TopUpsOff,
    cancel_purchase,
    check_open,
    check_purchase,
    open_checkout,
    start_purchase,
)
from tests.accounts.threads import at_once
from tests.billing.billing_builders import pay_by_credit
from tests.billing.stripe.conftest import WEBHOOK_SECRET

pytestmark = pytest.mark.django_db(transaction=True)
PAGE = "https://meter.example/back"


@pytest.fixture
def hook(sandbox, live_server):
    sandbox.post_control("webhooks", url=f"{live_server.url}/stripe/webhook/", secret=WEBHOOK_SECRET, hold=True)
    return sandbox


@pytest.fixture
def purchase(acme, sandbox) -> CreditPurchase:
    """Asked for; the payment page is open."""
    made = start_purchase(acme, Decimal(50), now=timezone.now())
    open_checkout(made, page_url=PAGE)
    made.refresh_from_db()
    return made


def enter_card(sandbox, purchase: CreditPurchase, card: str = "pm_card_visa") -> None:
    """The customer at the page of Stripe's."""
    body = urllib.parse.urlencode({"card": card}).encode()
    request = urllib.request.Request(f"{sandbox.url}/checkout/{purchase.stripe_id}", body)  # noqa: S310
    opener = urllib.request.build_opener(_StayHere)
    with opener.open(request, timeout=10):
        pass


class _StayHere(urllib.request.HTTPRedirectHandler):
    """Does not go back to the product."""

    def redirect_request(self, *arguments):
        return None

    def http_error_303(self, request, answer, code, message, headers):
        return answer


def sdk(sandbox) -> stripe_sdk.StripeClient:
    return stripe_sdk.StripeClient("sk_test_kilotoken", base_addresses={"api": sandbox.url})


def deliver(hook, **how) -> None:
    hook.post_control("deliver", **how)
    apply_unhandled(now=timezone.now())


def test_a_payment_becomes_credit_with_a_receipt(hook, acme, purchase):
    enter_card(hook, purchase)
    deliver(hook)
    purchase.refresh_from_db()
    assert (purchase.state, purchase.grant.amount, purchase.grant.kind) == ("paid", 50, "purchased")
    assert balance(acme, currency="USD", now=timezone.now()) == 50
    assert [send_due(now=timezone.now()), send_due(now=timezone.now())] == [1, 0]
    [receipt] = [message for message in mail.outbox if "Receipt" in message.subject]
    assert receipt.subject == "Receipt: $50.00 of credit"
    assert purchase.public_id in receipt.body
    assert AuditEntry.objects.filter(action="credit.purchased", subject_id=purchase.public_id).count() == 1


@pytest.mark.parametrize("is_event_lost", [False, True])
@pytest.mark.parametrize("succeeds", [True, False])
def test_a_payment_that_takes_days_becomes_credit_when_the_money_comes(hook, acme, purchase, succeeds, is_event_lost):
    """Or none; and either way where the event that says so is lost."""

    def news(when) -> None:
        if is_event_lost:
            check_open(now=when)
        else:
            deliver(hook)
        purchase.refresh_from_db()

    now = timezone.now() + timedelta(hours=1)
    hook.post_control("bank-debit", session=purchase.stripe_id)
    news(now)
    assert (purchase.state, balance(acme, currency="USD", now=now)) == ("processing", 0)
    with pytest.raises(AlreadyDecided):
        cancel_purchase(purchase, now=now)
    assert send_due(now=now) == 0

    hook.post_control("bank-debit", session=purchase.stripe_id, succeeds=succeeds)
    now += timedelta(days=4)
    news(now)

    assert purchase.state == ("paid" if succeeds else "ended")
    assert balance(acme, currency="USD", now=now) == (50 if succeeds else 0)
    assert (CreditGrant.objects.count(), send_due(now=now)) == ((1, 1) if succeeds else (0, 0))


def test_events_repeated_and_together_grant_once(hook, purchase):
    enter_card(hook, purchase)
    events = [event["id"] for event in hook.get_control("objects", type="event")]
    deliver(hook, order=events[::-1], repeat=4, together=True)
    for _ in range(3):
        check_purchase(purchase.pk, now=timezone.now())
    assert CreditGrant.objects.count() == 1


def test_an_event_that_overtakes_the_answer_finds_its_purchase(hook, purchase):
    """The answer that named the session was lost; the key leads a second try to the same session."""
    session = purchase.stripe_id
    CreditPurchase.objects.update(stripe_id=None)
    enter_card(hook, purchase)
    deliver(hook)
    purchase.refresh_from_db()
    assert (purchase.state, purchase.stripe_id) == ("paid", session)


def test_a_lost_answer_opens_no_second_session(sandbox, acme):
    made = start_purchase(acme, Decimal(50), now=timezone.now())
    sandbox.post_control("faults", kind="lose-answer", match="POST /v1/checkout/sessions", times=9)
    with pytest.raises(stripe_gateway.TemporaryFailure):
        open_checkout(made, page_url=PAGE)
    sandbox.account.faults.clear()
    open_checkout(made, page_url=PAGE)
    assert len(sandbox.get_control("objects", type="checkout.session")) == 1


def test_a_customer_deleted_at_stripe_is_for_a_person(sandbox, acme, purchase):
    customer = StripeCustomer.objects.get()
    sdk(sandbox).v1.customers.delete(customer.stripe_id)
    another = start_purchase(acme, Decimal(50), now=timezone.now())
    with pytest.raises(stripe_gateway.Refused):
        open_checkout(another, page_url=PAGE)
    customer.refresh_from_db()
    another.refresh_from_db()
    assert customer.is_missing
    assert "No such customer" in another.last_error


def test_lost_events_are_made_up_for_by_asking(hook, purchase):
    enter_card(hook, purchase)
    assert check_open(now=timezone.now()) == 1
    assert CreditGrant.objects.count() == 1
    assert check_open(now=timezone.now() + timedelta(days=1)) == 0
    assert len(ALL_TYPES) <= 20
    fetch_missed(now=timezone.now())
    apply_unhandled(now=timezone.now())
    assert CreditGrant.objects.count() == 1


def test_unpaid_is_asked_about_in_turn_and_ends_with_its_session(sandbox, purchase):
    now = timezone.now()
    assert [check_open(now=now), check_open(now=now), check_open(now=now + timedelta(minutes=6))] == [1, 0, 1]
    sandbox.post_control("clock", advance=25 * 3600)
    check_open(now=now + timedelta(hours=25))
    purchase.refresh_from_db()
    assert purchase.state == PurchaseState.ENDED
    assert not CreditGrant.objects.exists()


def test_a_session_that_never_was_is_given_up(sandbox, acme):
    made = start_purchase(acme, Decimal(50), now=timezone.now())
    check_open(now=timezone.now() + timedelta(hours=25))
    made.refresh_from_db()
    assert made.state == PurchaseState.ENDED


def test_a_declined_card_grants_nothing(hook, purchase):
    enter_card(hook, purchase, "pm_card_chargeDeclined")
    deliver(hook)
    purchase.refresh_from_db()
    assert (purchase.state, CreditGrant.objects.count()) == (PurchaseState.OPEN, 0)


def test_cancelled_cannot_be_paid_any_more(hook, purchase):
    assert cancel_purchase(purchase, now=timezone.now()).state == PurchaseState.ENDED
    enter_card(hook, purchase)
    deliver(hook)
    assert not CreditGrant.objects.exists()
    with pytest.raises(AlreadyDecided):
        cancel_purchase(CreditPurchase.objects.get(), now=timezone.now())


def test_cancelled_too_late_is_paid(hook, purchase):
    enter_card(hook, purchase)
    with pytest.raises(AlreadyDecided):
        cancel_purchase(purchase, now=timezone.now())
    assert CreditGrant.objects.count() == 1


def test_another_amount_than_asked_for_is_for_a_person(hook, purchase):
    enter_card(hook, purchase)
    CreditPurchase.objects.update(amount_minor=4000)
    deliver(hook)
    purchase.refresh_from_db()
    assert (purchase.state, CreditGrant.objects.count()) == (PurchaseState.MISMATCH, 0)
    assert "5000 USD" in purchase.last_error


def test_a_refund_takes_back_what_is_left(hook, acme, purchase, finalised_invoice):
    enter_card(hook, purchase)
    deliver(hook)
    purchase.refresh_from_db()
    pay_by_credit(finalised_invoice(), "30", timezone.now())

    for cents, left in ((1500, 5), (3500, 0)):
        sdk(hook).v1.refunds.create({"payment_intent": purchase.payment_intent, "amount": cents})
        deliver(hook)
        deliver(hook, order=[hook.get_control("objects", type="event")[-1]["id"]], repeat=3)
        assert remaining([purchase.grant])[purchase.grant.pk] == left

    purchase.refresh_from_db()
    assert (purchase.refunded_minor, purchase.taken_back_minor) == (5000, 2000)


def test_a_refund_that_overtakes_its_payment_is_not_lost(hook, purchase):
    enter_card(hook, purchase)
    [intent] = hook.get_control("objects", type="payment_intent")
    sdk(hook).v1.refunds.create({"payment_intent": intent["id"], "amount": 2000})
    deliver(hook, order=[event["id"] for event in hook.get_control("objects", type="event")][::-1])
    purchase.refresh_from_db()
    assert (purchase.refunded_minor, remaining([purchase.grant])[purchase.grant.pk]) == (2000, 30)


def test_checked_by_many_at_once_grants_once(hook, purchase):
    enter_card(hook, purchase)
    checked = at_once(*[lambda: check_purchase(purchase.pk, now=timezone.now()).state] * 4)
    assert checked == ["paid"] * 4
    assert CreditGrant.objects.count() == 1


def test_events_of_other_payments_are_nobodys(hook, purchase):
    intent = sdk(hook).v1.checkout.sessions.create(
        {
            "mode": "payment",
            "success_url": PAGE,
            "line_items": [
                {"quantity": 1, "price_data": {"currency": "usd", "unit_amount": 900, "product_data": {"name": "Mug"}}}
            ],
        }
    )
    purchase.stripe_id = intent.id
    enter_card(hook, purchase)
    deliver(hook)
    assert not CreditGrant.objects.exists()


@pytest.mark.parametrize(
    ("currency", "least", "presets"),
    [
        ("USD", 500, (1000, 2500, 5000, 10000)),
        ("JPY", 500, (1000, 2500, 5000, 10000)),
        ("KWD", 5000, (10000, 25000, 50000, 100000)),
        ("CZK", 20000, (40000, 100000, 200000, 400000)),
    ],
)
def test_amounts_follow_the_currency(currency, least, presets):
    amounts = amounts_in(currency)
    assert (amounts.least, amounts.presets) == (least, presets)


@pytest.mark.parametrize("amount", ["0", "-5", "4.99", "10000.01", "12.345", "1E+30", "NaN"])
def test_amounts_out_of_bounds_are_refused(amount):
    with pytest.raises(AmountRefused):
        require_buyable(Decimal(amount), amounts_in("USD"))


def test_switched_off_nobody_can_buy(acme, sandbox, settings):
    settings.CREDIT_TOP_UPS = False
    with pytest.raises(TopUpsOff):
        start_purchase(acme, Decimal(50), now=timezone.now())


def test_pages_lead_from_an_amount_to_the_receipt(hook, client_for, olivia, acme):
    client = client_for(olivia)
    asked = client.post("/o/acme/credits/purchases/new/", {"preset": "own", "amount": "12.50"})
    purchase = CreditPurchase.objects.get()
    page = f"/o/acme/credits/purchases/{purchase.public_id}/"
    assert asked["Location"] == page
    assert "Pay $12.50" in client.get(page).content.decode()
    assert client.get(f"{page}payment/")["Location"] == f"{hook.url}/checkout/{purchase.stripe_id}"

    enter_card(hook, purchase)
    deliver(hook)

    receipt = client.get(page).content.decode()
    assert "Credit for future bills" in receipt
    assert "See the credit" in receipt
    assert client.get(f"{page}payment/")["Location"] == page
    assert page in client.get("/o/acme/credits/").content.decode()


def test_pages_say_what_is_wrong(hook, client_for, olivia, vera, acme):
    client = client_for(olivia)
    refused = client.post("/o/acme/credits/purchases/new/", {"preset": "own", "amount": "1"}).content.decode()
    assert "Enter an amount from $5.00 to $10,000.00." in refused
    assert "Enter an amount." in client.post("/o/acme/credits/purchases/new/", {"preset": "own"}).content.decode()
    hook.post_control("faults", kind="503", match="POST /v1/checkout/sessions", times=9)
    page = client.post("/o/acme/credits/purchases/new/", {"preset": "5000"}, follow=True).content.decode()
    assert "Stripe does not answer right now" in page
    assert "the payment page could not be opened" in page
    assert client_for(vera).get("/o/acme/credits/purchases/new/").status_code == 403


def test_expiry_is_not_a_thing_of_bought_credit(hook, purchase):
    enter_card(hook, purchase)
    deliver(hook)
    grant = CreditGrant.objects.get()
    assert (grant.expires_at, grant.meters) == (None, [])
