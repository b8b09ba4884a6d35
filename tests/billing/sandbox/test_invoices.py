"""Invoices in the sandbox follow Stripe's documented states and sums."""

import pytest
import stripe

from tests.billing.sandbox.sdk import client_of


def test_lines_sum_to_the_total_and_only_ten_come_with_the_invoice(api, make_draft):
    draft = make_draft(*range(100, 125))
    assert draft.total == sum(range(100, 125))
    assert len(draft.lines.data) == 10
    assert draft.lines.has_more
    every = list(api.invoices.line_items.list(draft.id, {"limit": 10}).auto_paging_iter())
    assert [line.amount for line in every] == list(range(100, 125))


def test_a_call_of_add_lines_adds_all_lines_or_none(api, make_draft):
    draft = make_draft(500)
    wrong = {"amount": 100, "period": {"start": 10, "end": 5}}
    with pytest.raises(stripe.InvalidRequestError):
        api.invoices.add_lines(draft.id, {"lines": [{"amount": 100}, wrong]})
    assert api.invoices.retrieve(draft.id).total == 500


def test_lines_of_a_draft_can_be_replaced(api, make_draft):
    draft = make_draft(100, 200, 300)
    first, second, _ = draft.lines.data
    removed = api.invoices.remove_lines(draft.id, {"lines": [{"id": first.id, "behavior": "delete"}]})
    assert removed.total == 500
    api.invoice_items.update(second.parent.invoice_item_details.invoice_item, {"amount": 250})
    assert api.invoices.retrieve(draft.id).total == 550


def test_more_than_250_items_are_refused(api, make_draft):
    draft = make_draft(*[1] * 100)
    api.invoices.add_lines(draft.id, {"lines": [{"amount": 1}] * 150})
    with pytest.raises(stripe.InvalidRequestError, match="at most 250"):
        api.invoices.add_lines(draft.id, {"lines": [{"amount": 1}]})
    assert api.invoices.retrieve(draft.id).total == 250


def test_a_finalised_invoice_can_no_longer_be_changed_or_deleted(api, make_open):
    invoice = make_open(1000)
    for change in (
        lambda: api.invoices.add_lines(invoice.id, {"lines": [{"amount": 1}]}),
        lambda: api.invoices.update(invoice.id, {"description": "late"}),
        lambda: api.invoices.delete(invoice.id),
        lambda: api.invoices.finalize_invoice(invoice.id),
    ):
        with pytest.raises(stripe.InvalidRequestError):
            change()
    assert api.invoices.update(invoice.id, {"metadata": {"seen": "1"}}).metadata.seen == "1"


def test_a_deleted_draft_is_gone(api, make_draft):
    draft = make_draft(1000)
    assert api.invoices.delete(draft.id).deleted
    assert list(api.invoices.list()) == []
    with pytest.raises(stripe.InvalidRequestError) as refused:
        api.invoices.retrieve(draft.id)
    assert (refused.value.http_status, refused.value.code) == (404, "resource_missing")
    with pytest.raises(stripe.InvalidRequestError):
        api.invoices.finalize_invoice(draft.id)


def test_a_voided_invoice_cannot_be_paid(api, make_open):
    invoice = api.invoices.void_invoice(make_open(1000).id)
    assert invoice.status == "void"
    with pytest.raises(stripe.InvalidRequestError, match="void"):
        api.invoices.pay(invoice.id, {"payment_method": "pm_card_visa"})


def test_an_uncollectible_invoice_can_still_be_paid(api, make_open):
    invoice = api.invoices.mark_uncollectible(make_open(1000).id)
    assert api.invoices.pay(invoice.id, {"payment_method": "pm_card_visa"}).status == "paid"


def test_pending_items_of_another_flow_stay_out_unless_asked_for(api, customer, make_draft):
    api.invoice_items.create({"customer": customer.id, "amount": 777, "currency": "usd"})
    assert make_draft(100, pending_invoice_items_behavior="exclude").total == 100
    assert make_draft(pending_invoice_items_behavior="include").total == 777


def test_given_tax_amounts_are_added_as_given(api, make_draft):
    rate = {"display_name": "VAT", "inclusive": False, "percentage": "19"}
    tax = {"amount": 191, "taxable_amount": 1000, "tax_rate_data": rate}
    lines = [{"amount": 1000, "tax_amounts": [tax]}]
    draft = api.invoices.add_lines(make_draft().id, {"lines": lines})
    assert (draft.total, draft.total_excluding_tax) == (1191, 1000)


def test_an_amount_below_the_minimum_is_carried_to_the_next_invoice(api, customer, make_open):
    small = make_open(30)
    assert (small.status, small.amount_due, small.ending_balance) == ("paid", 0, 30)
    assert make_open(1000).amount_due == 1030
    assert api.customers.retrieve(customer.id).balance == 0


def test_a_customer_keeps_the_currency_of_its_first_invoice(api, customer, make_open):
    make_open(1000)
    with pytest.raises(stripe.InvalidRequestError, match="currencies"):
        api.invoices.create({"customer": customer.id, "currency": "eur"})


def test_invoices_of_a_deleted_customer_are_refused(api, customer, make_draft):
    draft = make_draft(1000)
    api.customers.delete(customer.id)
    assert api.customers.retrieve(customer.id).deleted
    with pytest.raises(stripe.InvalidRequestError) as refused:
        api.invoices.finalize_invoice(draft.id)
    assert refused.value.param == "customer"


def test_a_draft_advances_by_itself_after_an_hour_only_when_told_to(sandbox, api, make_draft):
    held, advancing = make_draft(1000, auto_advance=False), make_draft(1000, auto_advance=True)
    sandbox.post_control("clock", advance=3500)
    assert api.invoices.retrieve(advancing.id).status == "draft"
    sandbox.post_control("clock", advance=200)
    assert api.invoices.retrieve(advancing.id).status == "open"
    assert api.invoices.retrieve(held.id).status == "draft"


def test_finalising_with_automatic_tax_needs_an_address(sandbox, api, make_draft):
    draft = make_draft(1000, automatic_tax={"enabled": True})
    with pytest.raises(stripe.InvalidRequestError, match="location"):
        api.invoices.finalize_invoice(draft.id)
    assert api.invoices.retrieve(draft.id).last_finalization_error.code == "customer_tax_location_invalid"
    assert len(list(api.events.list({"type": "invoice.finalization_failed"}))) == 1


def test_search_finds_new_objects_only_later(sandbox, api, make_draft):
    make_draft(1000, metadata={"number": "KT-1"})
    query = {"query": "metadata['number']:'KT-1'"}
    assert api.invoices.search(query).data == []
    sandbox.post_control("clock", advance=61)
    assert len(api.invoices.search(query).data) == 1


def test_only_test_keys_are_accepted(sandbox):
    with pytest.raises(stripe.AuthenticationError):
        client_of(sandbox, key="sk_live_real").customers.list()
