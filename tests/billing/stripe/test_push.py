"""Pushing an invoice: one invoice at Stripe with the right lines, whatever happens on the way."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
import stripe as stripe_sdk
from django.db import connections

from billing.models import StripeCustomer, StripeInvoice
from billing.models.invoices import InvoiceState
from billing.models.stripe_mirror import PushState
from billing.stripe_sync import NotYetAtStripe, hosted_payment_url, push_invoice, push_waiting
from tests.billing.stripe.conftest import NOW

pytestmark = pytest.mark.django_db(transaction=True)


def at_stripe(sandbox, kind: str) -> list[dict]:
    return sandbox.get_control("objects", type=kind)


def lines_at_stripe(sandbox, stripe_id: str) -> list[int]:
    client = stripe_sdk.StripeClient("sk_test_kilotoken", base_addresses={"api": sandbox.url})
    lines = client.v1.invoices.line_items.list(stripe_id, {"limit": 100})
    return [line.amount for line in lines.auto_paging_iter()]


def test_pushed_invoice_is_open_at_stripe_with_our_lines_and_total(sandbox, finalised_invoice):
    invoice = finalised_invoice(amounts=[1234, 55, 0, -4])
    push = push_invoice(invoice.pk, now=NOW)
    invoice.refresh_from_db()
    assert (push.state, push.remote_status, push.remote_total) == (PushState.PUSHED, "open", 1285)
    assert invoice.state == InvoiceState.PUSHED
    assert sorted(lines_at_stripe(sandbox, push.stripe_id)) == [-4, 0, 55, 1234]
    [remote] = at_stripe(sandbox, "invoice")
    assert remote["number"] == invoice.number
    assert remote["auto_advance"] is False


def test_pushing_again_calls_nothing_and_changes_nothing(sandbox, finalised_invoice):
    invoice = finalised_invoice()
    push_invoice(invoice.pk, now=NOW)
    calls = len(sandbox.get_control("journal"))
    push_invoice(invoice.pk, now=NOW)
    assert len(sandbox.get_control("journal")) == calls


def test_second_invoice_of_a_customer_reuses_the_customer(sandbox, finalised_invoice):
    push_waiting(now=NOW)
    for _ in range(2):
        push_invoice(finalised_invoice().pk, now=NOW)
    assert len(at_stripe(sandbox, "customer")) == 1
    assert StripeCustomer.objects.count() == 1


def test_invoice_of_120_lines_arrives_whole(sandbox, finalised_invoice):
    invoice = finalised_invoice(amounts=list(range(1, 121)))
    push = push_invoice(invoice.pk, now=NOW)
    assert push.state == PushState.PUSHED
    assert sorted(lines_at_stripe(sandbox, push.stripe_id)) == list(range(1, 121))


def test_invoice_of_300_lines_is_pushed_by_model_with_the_same_total(sandbox, finalised_invoice):
    invoice = finalised_invoice(amounts=[7] * 300)
    push = push_invoice(invoice.pk, now=NOW)
    assert push.state == PushState.PUSHED
    amounts = lines_at_stripe(sandbox, push.stripe_id)
    assert len(amounts) == 40
    assert sum(amounts) == 2100


@pytest.mark.parametrize(("currency", "amounts"), [("JPY", [1999, 1]), ("KWD", [5120, 10]), ("EUR", [100, 1])])
def test_minor_units_pass_as_they_are(sandbox, finalised_invoice, currency, amounts):
    push = push_invoice(finalised_invoice(amounts=amounts, currency=currency).pk, now=NOW)
    [remote] = at_stripe(sandbox, "invoice")
    assert (remote["total"], remote["currency"]) == (sum(amounts), currency.lower())
    assert push.state == PushState.PUSHED


def test_a_foreign_pending_item_is_left_out(sandbox, finalised_invoice):
    first = push_invoice(finalised_invoice().pk, now=NOW)
    client = stripe_sdk.StripeClient("sk_test_kilotoken", base_addresses={"api": sandbox.url})
    customer = StripeCustomer.objects.get().stripe_id
    client.v1.invoice_items.create({"customer": customer, "amount": 9999, "currency": "usd"})
    second = push_invoice(finalised_invoice(amounts=[500]).pk, now=NOW)
    assert first.state == second.state == PushState.PUSHED
    assert second.remote_total == 500


@pytest.mark.parametrize(("kind", "times"), [("lose-request", 3), ("lose-answer", 3), ("500", 3), ("429", 1)])
def test_a_fault_at_any_call_and_a_day_of_outage_end_in_one_correct_invoice(sandbox, finalised_invoice, kind, times):
    """Three times, since the SDK itself repeats a call twice; a day, since Stripe then forgets every key."""
    for calls_before_fault in range(10):
        sandbox.post_control("reset")
        StripeCustomer.objects.all().delete()
        invoice = finalised_invoice(amounts=[300, 200])
        sandbox.post_control("faults", match="/v1/", kind=kind, skip=calls_before_fault, times=times)
        assert push_invoice(invoice.pk, now=NOW).state == PushState.WAITING
        sandbox.post_control("clock", advance=25 * 3600)
        push = push_invoice(invoice.pk, now=NOW + timedelta(hours=25))
        assert push.state == PushState.PUSHED
        assert [remote["total"] for remote in at_stripe(sandbox, "invoice")] == [500]
        assert sorted(lines_at_stripe(sandbox, push.stripe_id)) == [200, 300]
        assert len(at_stripe(sandbox, "customer")) == 1


def test_a_temporary_failure_waits_longer_each_time(sandbox, finalised_invoice):
    invoice = finalised_invoice()
    sandbox.post_control("faults", match="/v1/", kind="500", times=1000)
    waits = []
    for _ in range(3):
        push = push_invoice(invoice.pk, now=NOW)
        waits.append(push.next_try_at - NOW)
    assert waits == sorted(set(waits))
    assert push_waiting(now=NOW) == []
    assert StripeInvoice.objects.get().state == PushState.WAITING


def test_a_tampered_draft_is_deleted_and_left_to_a_person(sandbox, finalised_invoice):
    invoice = finalised_invoice(amounts=[300])
    sandbox.post_control("faults", match="POST /v1/invoices/[^/]+/finalize", kind="500", times=10)
    push = push_invoice(invoice.pk, now=NOW)
    client = stripe_sdk.StripeClient("sk_test_kilotoken", base_addresses={"api": sandbox.url})
    client.v1.invoices.add_lines(push.stripe_id, {"lines": [{"amount": 5, "description": "surprise"}]})
    sandbox.post_control("faults", match="nothing", kind="500", times=0)
    push = push_invoice(invoice.pk, now=NOW + timedelta(days=1))
    assert push.state == PushState.MISMATCH
    assert push.stripe_id is None
    assert at_stripe(sandbox, "invoice") == [] or all(i.get("deleted") for i in at_stripe(sandbox, "invoice"))
    invoice.refresh_from_db()
    assert invoice.state == InvoiceState.FINALISED


def test_a_customer_deleted_at_stripe_stops_the_push(sandbox, finalised_invoice):
    push_invoice(finalised_invoice().pk, now=NOW)
    client = stripe_sdk.StripeClient("sk_test_kilotoken", base_addresses={"api": sandbox.url})
    client.v1.customers.delete(StripeCustomer.objects.get().stripe_id)
    push = push_invoice(finalised_invoice().pk, now=NOW)
    assert push.state == PushState.REFUSED
    assert StripeCustomer.objects.get().is_missing


def test_two_workers_pushing_at_once_make_one_invoice(sandbox, finalised_invoice):
    invoices = [finalised_invoice(amounts=[100 + number]) for number in range(4)]

    def push_all(_worker: int) -> None:
        try:
            push_waiting(now=NOW)
        finally:
            connections.close_all()

    with ThreadPoolExecutor(2) as workers:
        list(workers.map(push_all, range(2)))
    push_waiting(now=NOW + timedelta(hours=2))
    remote = at_stripe(sandbox, "invoice")
    assert sorted(row["total"] for row in remote) == [100, 101, 102, 103]
    assert {invoice.number for invoice in invoices} == {row["number"] for row in remote}
    assert set(StripeInvoice.objects.values_list("state", flat=True)) == {PushState.PUSHED}
    assert len(at_stripe(sandbox, "customer")) == 1


def test_every_write_carries_a_key_of_ours(sandbox, finalised_invoice):
    push_invoice(finalised_invoice().pk, now=NOW)
    writes = [note for note in sandbox.get_control("journal") if note.get("call", "").startswith("POST")]
    assert len(writes) == 5
    assert all(note["key"].startswith("kilotoken:test:") for note in writes)


def test_payment_page_is_fetched_when_asked_for(sandbox, finalised_invoice):
    invoice = finalised_invoice()
    with pytest.raises(NotYetAtStripe):
        hosted_payment_url(invoice)
    push_invoice(invoice.pk, now=NOW)
    assert hosted_payment_url(invoice).startswith(sandbox.url)


def test_without_a_key_nothing_is_pushed(settings, finalised_invoice):
    settings.STRIPE_SECRET_KEY = ""
    finalised_invoice()
    assert push_waiting(now=NOW) == []
