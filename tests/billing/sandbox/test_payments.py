"""Cards, payments, refunds and credit notes in the sandbox."""

import pytest
import stripe


def test_a_payment_leaves_an_intent_a_charge_and_a_payment_record(api, make_open):
    paid = api.invoices.pay(make_open(1000).id, {"payment_method": "pm_card_visa", "expand": ["payments"]})
    assert (paid.status, paid.amount_paid, paid.amount_remaining) == ("paid", 1000, 0)
    intent = api.payment_intents.retrieve(paid.payments.data[0].payment.payment_intent)
    assert (intent.status, intent.amount_received) == ("succeeded", 1000)
    assert api.charges.retrieve(intent.latest_charge).paid
    back = api.invoice_payments.list({"payment": {"type": "payment_intent", "payment_intent": intent.id}})
    assert [payment.invoice for payment in back] == [paid.id]
    assert not hasattr(api.invoices.retrieve(paid.id), "payments")


def test_a_declined_card_leaves_the_invoice_open_and_a_good_one_pays_it(api, make_open):
    invoice = make_open(1000)
    with pytest.raises(stripe.CardError) as declined:
        api.invoices.pay(invoice.id, {"payment_method": "pm_card_visa_chargeDeclinedInsufficientFunds"})
    assert (declined.value.code, declined.value.error.decline_code) == ("card_declined", "insufficient_funds")
    assert api.invoices.retrieve(invoice.id).status == "open"
    assert api.invoices.pay(invoice.id, {"payment_method": "pm_card_visa"}).attempt_count == 2


def test_paying_twice_is_refused(api, make_open):
    invoice = api.invoices.pay(make_open(1000).id, {"payment_method": "pm_card_visa"})
    with pytest.raises(stripe.InvalidRequestError, match="already paid"):
        api.invoices.pay(invoice.id, {"payment_method": "pm_card_visa"})


def test_an_automatic_invoice_is_charged_and_tried_again_until_a_card_is_good(sandbox, api, customer, make_open):
    failing = api.payment_methods.attach("pm_card_chargeCustomerFail", {"customer": customer.id})
    settings = {"default_payment_method": failing.id}
    api.customers.update(customer.id, {"invoice_settings": settings})
    invoice = make_open(1000, collection_method="charge_automatically", auto_advance=True)
    sandbox.post_control("clock", advance=60)
    tried = api.invoices.retrieve(invoice.id)
    assert (tried.status, tried.attempt_count) == ("open", 1)
    good = api.payment_methods.attach("pm_card_visa", {"customer": customer.id})
    api.customers.update(customer.id, {"invoice_settings": {"default_payment_method": good.id}})
    sandbox.post_control("clock", advance=2 * 24 * 3600)
    assert api.invoices.retrieve(invoice.id).status == "open"
    sandbox.post_control("clock", advance=24 * 3600)
    assert api.invoices.retrieve(invoice.id).status == "paid"


def test_refunds_never_exceed_what_was_paid(api, make_open):
    paid = api.invoices.pay(make_open(1000).id, {"payment_method": "pm_card_visa", "expand": ["payments"]})
    intent = paid.payments.data[0].payment.payment_intent
    api.refunds.create({"payment_intent": intent, "amount": 400})
    with pytest.raises(stripe.InvalidRequestError, match="600"):
        api.refunds.create({"payment_intent": intent, "amount": 601})
    api.refunds.create({"payment_intent": intent})
    charge = api.charges.retrieve(api.payment_intents.retrieve(intent).latest_charge)
    assert (charge.amount_refunded, charge.refunded) == (1000, True)


def test_a_credit_note_lowers_what_is_due_and_settles_an_open_invoice(api, make_open):
    invoice = make_open(1000, 500)
    line = {"type": "invoice_line_item", "invoice_line_item": invoice.lines.data[1].id, "amount": 500}
    api.credit_notes.create({"invoice": invoice.id, "lines": [line]})
    assert api.invoices.retrieve(invoice.id).amount_remaining == 1000
    api.credit_notes.create({"invoice": invoice.id, "amount": 1000})
    assert api.invoices.retrieve(invoice.id).status == "paid"


def test_a_credit_note_of_a_paid_invoice_says_where_the_money_goes(api, customer, make_open):
    invoice = api.invoices.pay(make_open(1000).id, {"payment_method": "pm_card_visa"})
    with pytest.raises(stripe.InvalidRequestError, match="add up"):
        api.credit_notes.create({"invoice": invoice.id, "amount": 300, "refund_amount": 200})
    note = {"invoice": invoice.id, "amount": 300, "refund_amount": 200, "credit_amount": 100}
    assert api.credit_notes.create(note).type == "post_payment"
    assert api.customers.retrieve(customer.id).balance == -100
    assert [refund.amount for refund in api.refunds.list()] == [200]
