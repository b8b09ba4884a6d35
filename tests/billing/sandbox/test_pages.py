"""The hosted pages: what a customer sees and does, without scripts."""

import http.client
import urllib.error
import urllib.parse
import urllib.request

import pytest
from django.utils.html import escape

from billing.sandbox import Options, Sandbox
from tests.billing.sandbox.sdk import client_of


class _Stay(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *args):
        return None


def browse(url: str, **form: str) -> tuple[int, str, dict[str, str]]:
    """(status, text, headers) of a page, or of submitting a form to it; redirects are not followed."""
    body = urllib.parse.urlencode(form).encode() if form else None
    try:
        with urllib.request.build_opener(_Stay).open(url, body) as answer:
            return answer.status, answer.read().decode(), dict(answer.headers)
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode(), dict(error.headers)


def test_the_invoice_page_shows_what_is_owed_and_that_no_money_moves(api, customer, make_open):
    customer = api.customers.update(customer.id, {"name": "<Acme> & Co"})
    invoice = make_open(123456, number="KT-2026-0001")
    status, text, headers = browse(invoice.hosted_invoice_url)
    assert status == 200
    for part in ("no real money moves", "KT-2026-0001", "1,234.56 USD", "Tokens 123456", escape("<Acme> & Co")):
        assert part in text
    policy = headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; style-src 'self'")
    assert "<script" not in text
    assert "style=" not in text


def test_paying_on_the_page_settles_the_invoice_and_leads_back(document):
    with Sandbox(document=document, options=Options(return_url="http://portal.test/o/acme/")) as sandbox:
        api = client_of(sandbox)
        customer = api.customers.create({"name": "Acme"})
        item = {"customer": customer.id, "amount": 900, "currency": "usd"}
        api.invoice_items.create(item)
        draft = api.invoices.create({"customer": customer.id, "pending_invoice_items_behavior": "include"})
        url = api.invoices.finalize_invoice(draft.id).hosted_invoice_url
        status, _, headers = browse(url, card="pm_card_visa")
        assert (status, headers["Location"]) == (303, urllib.parse.urlsplit(url).path)
        assert api.invoices.retrieve(draft.id).status == "paid"
        _, text, _ = browse(url)
        assert "Invoice paid" in text
        assert 'href="http://portal.test/o/acme/"' in text
        assert "<form" not in text


def test_a_declined_card_on_the_page_says_so_and_can_be_replaced(api, make_open):
    invoice = make_open(1000)
    status, text, _ = browse(invoice.hosted_invoice_url, card="pm_card_chargeDeclined")
    assert (status, api.invoices.retrieve(invoice.id).status) == (200, "open")
    assert "Your card was declined." in text
    assert browse(invoice.hosted_invoice_url, card="pm_card_visa")[0] == 303


def test_a_card_that_needs_authentication_waits_for_the_customers_answer(api, make_open):
    url = (invoice := make_open(1000)).hosted_invoice_url
    _, text, _ = browse(url, card="pm_card_authenticationRequired")
    assert "is this you?" in text
    assert "not confirmed" in browse(url, answer="refuse")[1]
    assert api.invoices.retrieve(invoice.id).status == "open"
    browse(url, card="pm_card_authenticationRequired")
    assert browse(url, answer="confirm")[0] == 303
    assert api.invoices.retrieve(invoice.id).status == "paid"


def test_checkout_saves_a_card_and_returns_with_the_session(api, customer):
    params = {"mode": "setup", "customer": customer.id, "currency": "usd", "cancel_url": "http://portal.test/no"}
    back = "http://portal.test/done?session={CHECKOUT_SESSION_ID}"
    session = api.checkout.sessions.create({**params, "success_url": back})
    assert "form-action 'self' http://portal.test;" in browse(session.url)[2]["Content-Security-Policy"]
    assert "declined" in browse(session.url, card="pm_card_chargeDeclined")[1]
    status, _, headers = browse(session.url, card="pm_card_visa")
    assert (status, headers["Location"]) == (303, f"http://portal.test/done?session={session.id}")
    done = api.checkout.sessions.retrieve(session.id, {"expand": ["setup_intent"]})
    assert (done.status, done.setup_intent.status) == ("complete", "succeeded")
    methods = api.customers.payment_methods.list(customer.id)
    assert [method.id for method in methods] == [done.setup_intent.payment_method]


def test_checkout_takes_a_payment(api, customer):
    price = {"currency": "eur", "unit_amount": 2500, "product_data": {"name": "Prepaid credit"}}
    session = api.checkout.sessions.create(
        {
            "mode": "payment",
            "customer": customer.id,
            "line_items": [{"price_data": price, "quantity": 2}],
            "success_url": "http://portal.test/done",
        }
    )
    assert "50.00 EUR" in browse(session.url)[1]
    browse(session.url, card="pm_card_visa")
    done = api.checkout.sessions.retrieve(session.id, {"expand": ["payment_intent"]})
    assert (done.payment_status, done.payment_intent.amount_received) == ("paid", 5000)
    assert "expired or was used" in browse(session.url, card="pm_card_visa")[1]


def test_the_portal_replaces_the_card(api, customer):
    params = {"customer": customer.id, "return_url": "http://portal.test/"}
    session = api.billing_portal.sessions.create(params)
    assert "No card is saved" in browse(session.url)[1]
    assert browse(session.url, card="pm_card_visa")[2]["Location"] == "http://portal.test/"
    assert api.customers.retrieve(customer.id).invoice_settings.default_payment_method
    assert "4242" in browse(session.url)[1]


@pytest.mark.parametrize("path", ["/", "/invoice/in_none", "/checkout/", "/portal/cus_x", "/admin/x"])
def test_other_addresses_show_a_page_that_says_so(sandbox, path):
    status, text, _ = browse(sandbox.url + path)
    assert status == 404
    assert "Nothing here" in text


def test_a_request_under_another_name_is_not_answered(sandbox):
    connection = http.client.HTTPConnection("127.0.0.1", sandbox.port)
    connection.request("GET", "/_control/journal", headers={"Host": "evil.test"})
    assert connection.getresponse().status == 421
    connection.close()
