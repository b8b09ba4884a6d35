"""The sandbox checks requests against Stripe's document and keeps idempotency keys as Stripe documents it."""

import threading
from decimal import Decimal

import pytest
import stripe

from tests.billing.sandbox.sdk import client_of


@pytest.mark.parametrize(
    ("params", "code", "param"),
    [
        ({"colour": "red"}, "parameter_unknown", "colour"),
        ({"address": {"planet": "Mars"}}, "parameter_unknown", "address[planet]"),
        ({"balance": "much"}, "parameter_invalid_integer", "balance"),
        ({"name": "x" * 300}, "parameter_invalid_length", "name"),
        ({"tax_exempt": "maybe"}, "parameter_invalid_enum", "tax_exempt"),
        ({"metadata": {"note": "x" * 501}}, "parameter_invalid_metadata", "metadata[note]"),
    ],
)
def test_a_wrong_parameter_is_refused_by_name(api, params, code, param):
    with pytest.raises(stripe.InvalidRequestError) as refused:
        api.customers.create(params)
    assert (refused.value.code, refused.value.param) == (code, param)
    assert list(api.customers.list()) == []


def test_wrong_lines_are_refused_at_any_depth(api, make_draft):
    draft = make_draft()
    for line, param in (
        ({"amount": 5, "period": {"start": 1}}, "lines[0][period][end]"),
        ({"amount": 5, "shade": "dark"}, "lines[0][shade]"),
        ({"amount": 5, "metadata": {"k" * 41: "v"}}, "lines[0][metadata][" + "k" * 41 + "]"),
        ({"unit_amount_decimal": Decimal("0.00000075"), "quantity": 1}, "lines[0][unit_amount_decimal]"),
    ):
        with pytest.raises(stripe.InvalidRequestError) as refused:
            api.invoices.add_lines(draft.id, {"lines": [line]})
        assert refused.value.param == param


def test_parameters_that_the_newest_version_removed_are_refused(api, customer):
    setup = {"mode": "setup", "customer": customer.id, "success_url": "http://127.0.0.1/"}
    with pytest.raises(stripe.InvalidRequestError, match="payment_method_types"):
        api.checkout.sessions.create({**setup, "payment_method_types": ["card"]})
    assert api.checkout.sessions.create({**setup, "allowed_payment_method_types": ["card"]}).status == "open"


def test_lists_page_filter_and_refuse_more_than_a_hundred(api, customer, make_draft):
    made = [make_draft().id for _ in range(5)]
    every = [invoice.id for invoice in api.invoices.list({"limit": 2}).auto_paging_iter()]
    assert every == made[::-1]
    assert list(api.invoices.list({"customer": customer.id, "status": "open"})) == []
    assert list(api.invoices.list({"created": {"gte": 32503680000}})) == []
    with pytest.raises(stripe.InvalidRequestError):
        api.invoices.list({"limit": 500})


# -- Idempotency keys


def test_the_same_key_gives_the_first_answer_again(sandbox, api):
    first = api.customers.create({"name": "Acme"}, {"idempotency_key": "tenant:1"})
    again = api.customers.create({"name": "Acme"}, {"idempotency_key": "tenant:1"})
    assert again.id == first.id
    assert again.last_response.headers["Idempotent-Replayed"] == "true"
    assert sandbox.get_control("summary")["replayed"] == 1
    assert len(list(api.customers.list())) == 1


def test_a_key_with_other_parameters_is_refused(api):
    api.customers.create({"name": "Acme"}, {"idempotency_key": "tenant:1"})
    with pytest.raises(stripe.IdempotencyError):
        api.customers.create({"name": "Acme Ltd"}, {"idempotency_key": "tenant:1"})


def test_a_key_is_forgotten_after_a_day(sandbox, api):
    first = api.customers.create({"name": "Acme"}, {"idempotency_key": "tenant:1"})
    sandbox.post_control("clock", advance=24 * 3600 + 1)
    assert api.customers.create({"name": "Acme"}, {"idempotency_key": "tenant:1"}).id != first.id


def test_a_refusal_is_remembered_but_a_failed_validation_is_not(api, make_open):
    invoice = make_open(1000)
    declined = {"payment_method": "pm_card_chargeCustomerFail"}
    for _ in range(2):
        with pytest.raises(stripe.CardError):
            api.invoices.pay(invoice.id, declined, {"idempotency_key": "pay:1"})
    assert api.invoices.retrieve(invoice.id).attempt_count == 1
    with pytest.raises(stripe.InvalidRequestError):
        api.customers.create({"colour": "red"}, {"idempotency_key": "tenant:1"})
    assert api.customers.create({"name": "Acme"}, {"idempotency_key": "tenant:1"}).id


def test_a_key_in_use_is_refused_and_the_second_worker_ends_with_the_first_result(sandbox):
    sandbox.post_control("faults", match="POST /v1/customers$", kind="slow-request", seconds=0.5)
    ids = []

    def create(retries: int) -> None:
        api = client_of(sandbox, retries=retries)
        ids.append(api.customers.create({"name": "Acme"}, {"idempotency_key": "tenant:1"}).id)

    first = threading.Thread(target=create, args=(0,))
    first.start()
    while "tenant:1" not in sandbox.account.keys:
        assert first.is_alive()
    with pytest.raises(stripe.StripeError) as refused:
        create(0)
    assert refused.value.http_status == 409
    assert refused.value.json_body["error"]["code"] == "idempotency_key_in_use"
    create(3)
    first.join()
    assert len(ids) == 2
    assert len(set(ids)) == 1


# -- Faults


def test_a_lost_answer_has_taken_effect_and_a_lost_request_has_not(sandbox, api):
    sandbox.post_control("faults", match="POST /v1/customers$", kind="lose-request")
    with pytest.raises(stripe.APIConnectionError):
        api.customers.create({"name": "Acme"})
    assert list(api.customers.list()) == []
    sandbox.post_control("faults", match="POST /v1/customers$", kind="lose-answer")
    with pytest.raises(stripe.APIConnectionError):
        api.customers.create({"name": "Acme"})
    assert len(list(api.customers.list())) == 1


def test_the_sdk_gets_over_a_server_error_but_not_over_too_many_requests(sandbox):
    api = client_of(sandbox, retries=2)
    sandbox.post_control("faults", kind="503", skip=1, times=1)
    assert api.customers.create({"name": "One"}).id
    assert api.customers.create({"name": "Two"}).id
    sandbox.post_control("faults", kind="429")
    with pytest.raises(stripe.RateLimitError):
        api.customers.create({"name": "Three"})


def test_the_summary_names_endpoints_versions_and_calls_without_rules(sandbox, api):
    api.products.create({"name": "Meter"})
    summary = sandbox.get_control("summary")
    assert summary["generic"] == ["POST /v1/products"]
    assert "POST /v1/products" in summary["endpoints_used"]
    assert summary["versions_sent"] == [stripe.api_version]
