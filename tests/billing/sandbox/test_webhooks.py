"""Webhooks of the sandbox: signed, in order, repeated, held back and tried again."""

import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import stripe

from billing.sandbox import Options, Sandbox
from tests.billing.sandbox.sdk import client_of
from tests.billing.sandbox.test_pages import browse

SECRET = "whsec_of_the_tests"
# Every event that the flows of the product can cause and the product listens to.
OURS = {
    "charge.refunded",
    "checkout.session.completed",
    "credit_note.created",
    "credit_note.voided",
    "customer.deleted",
    "customer.updated",
    "invoice.deleted",
    "invoice.finalization_failed",
    "invoice.finalized",
    "invoice.marked_uncollectible",
    "invoice.overdue",
    "invoice.paid",
    "invoice.payment_action_required",
    "invoice.payment_failed",
    "invoice.sent",
    "invoice.updated",
    "invoice.voided",
    "invoice_payment.paid",
    "payment_method.attached",
    "payment_method.detached",
    "setup_intent.setup_failed",
    "setup_intent.succeeded",
}


class Receiver:
    """An application that takes webhooks: what arrived, and what it answers."""

    def __init__(self) -> None:
        self.arrived: list[tuple[bytes, str]] = []
        self.answers: list[int] = []
        self.secret = SECRET
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                receiver.arrived.append((body, self.headers["Stripe-Signature"]))
                self.send_response(receiver.answers.pop(0) if receiver.answers else 200)
                self.send_header("Location", "/elsewhere")
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *args: object) -> None:
                """Nothing to say."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/stripe/webhook/"

    def events(self) -> list[stripe.Event]:
        """What arrived, each verified with Stripe's own code."""
        return [stripe.Webhook.construct_event(body, signed, self.secret) for body, signed in list(self.arrived)]

    def wait_for(self, count: int) -> list[stripe.Event]:
        deadline = time.monotonic() + 5
        while len(self.arrived) < count and time.monotonic() < deadline:
            time.sleep(0.01)
        assert len(self.arrived) >= count
        return self.events()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    running = Receiver()
    yield running
    running.server.shutdown()
    running.server.server_close()


def test_paying_on_the_hosted_page_sends_signed_events_in_order(sandbox, receiver, make_open):
    invoice = make_open(1000)
    sandbox.post_control("webhooks", url=receiver.url, secret=SECRET)
    browse(invoice.hosted_invoice_url, card="pm_card_visa")
    events = receiver.wait_for(5)
    assert [event.type for event in events] == [
        "charge.succeeded",
        "payment_intent.succeeded",
        "invoice_payment.paid",
        "invoice.paid",
        "invoice.payment_succeeded",
    ]
    assert events[3].data.object.id == invoice.id
    assert not events[3].livemode


def test_a_wrong_secret_does_not_verify(sandbox, api, receiver):
    sandbox.post_control("webhooks", url=receiver.url, secret="whsec_another")
    api.customers.create({"name": "Acme"})
    with pytest.raises(stripe.SignatureVerificationError):
        receiver.wait_for(1)


def test_held_events_are_delivered_reordered_repeated_and_together(sandbox, api, receiver, make_open):
    sandbox.post_control("webhooks", url=receiver.url, secret=SECRET, events=["invoice.finalized", "invoice.paid"])
    sandbox.post_control("webhooks", url=receiver.url, secret=SECRET, events=["invoice.voided"], hold=True)
    invoice = make_open(1000)
    receiver.wait_for(1)
    api.invoices.void_invoice(invoice.id)
    voided = api.events.list({"type": "invoice.voided"}).data[0]
    finalized = api.events.list({"type": "invoice.finalized"}).data[0]
    assert len(receiver.arrived) == 1
    sandbox.post_control("deliver", order=[voided.id], repeat=8, together=True)
    sandbox.post_control("deliver", order=[finalized.id])
    assert [event.id for event in receiver.events()[1:9]] == [voided.id] * 8
    assert finalized.id in [event.id for event in receiver.events()[9:]]


def test_an_application_that_was_away_still_gets_its_events(document, receiver):
    receiver.answers = [503, 500]
    with Sandbox(document=document, webhook=(receiver.url, SECRET), options=Options(waits=(0.01, 0.05))) as sandbox:
        client_of(sandbox).customers.create({"name": "Acme"})
        events = receiver.wait_for(3)
        assert len({event.id for event in events}) == 1


def test_a_redirect_is_a_failed_delivery(document, receiver):
    receiver.answers = [302, 302]
    with Sandbox(document=document, webhook=(receiver.url, SECRET), options=Options(waits=(0.01,))) as sandbox:
        api = client_of(sandbox)
        api.customers.create({"name": "Acme"})
        receiver.wait_for(2)
        assert api.events.list().data[0].pending_webhooks == 1


def test_an_endpoint_made_through_the_api_hears_what_it_asked_for_until_it_is_deleted(api, receiver):
    endpoint = api.webhook_endpoints.create({"url": receiver.url, "enabled_events": ["customer.deleted"]})
    receiver.secret = endpoint.secret
    api.customers.delete(api.customers.create({"name": "Acme"}).id)
    assert [event.type for event in receiver.wait_for(1)] == ["customer.deleted"]
    assert not hasattr(api.webhook_endpoints.retrieve(endpoint.id), "secret")
    api.webhook_endpoints.delete(endpoint.id)
    api.customers.delete(api.customers.create({"name": "Acme"}).id)
    assert api.events.list().data[0].pending_webhooks == 0


def test_every_event_the_product_listens_to_can_happen(sandbox, api, customer, make_draft, make_open):
    api.customers.update(customer.id, {"name": "Acme Ltd"})
    session = {"mode": "setup", "customer": customer.id, "currency": "usd", "success_url": "http://portal.test/"}
    checkout = api.checkout.sessions.create(session)
    browse(checkout.url, card="pm_card_chargeDeclined")
    browse(checkout.url, card="pm_card_visa")
    method = api.customers.payment_methods.list(customer.id).data[0]
    api.invoices.delete(make_draft(1000).id)
    with pytest.raises(stripe.InvalidRequestError):
        api.invoices.finalize_invoice(make_draft(1000, automatic_tax={"enabled": True}).id)
    sent = api.invoices.send_invoice(make_open(1000).id)
    for card in ("pm_card_chargeCustomerFail", "pm_card_authenticationRequired"):
        with pytest.raises(stripe.CardError):
            api.invoices.pay(sent.id, {"payment_method": card})
    sandbox.post_control("clock", advance=31 * 24 * 3600)
    note = api.credit_notes.create({"invoice": sent.id, "amount": 100})
    api.credit_notes.void_credit_note(note.id)
    api.invoices.mark_uncollectible(sent.id)
    api.invoices.void_invoice(sent.id)
    paid = api.invoices.pay(make_open(1000).id, {"payment_method": method.id})
    api.credit_notes.create({"invoice": paid.id, "amount": 100, "refund_amount": 100})
    api.payment_methods.detach(method.id)
    api.customers.delete(customer.id)
    happened = {event.type for event in api.events.list({"limit": 100}).auto_paging_iter()}
    assert happened >= OURS, OURS - happened
