"""Customers, their payment methods and setup intents."""

import secrets
from typing import Any

from billing.sandbox.account import Account, Call
from billing.sandbox.document import Thing
from billing.sandbox.errors import StripeError
from billing.sandbox.rules.generic import mark_deleted
from billing.sandbox.rules.registry import on

AUTHENTICATION_REQUIRED = "authentication_required"

# Stripe's test payment methods -> (last four digits, what attaching does, what a charge does)
TEST_METHODS = {
    "pm_card_visa": ("4242", "ok", "ok"),
    "pm_card_mastercard": ("4444", "ok", "ok"),
    "pm_card_chargeCustomerFail": ("0341", "ok", "generic_decline"),
    "pm_card_chargeDeclined": ("0002", "generic_decline", "generic_decline"),
    "pm_card_visa_chargeDeclinedInsufficientFunds": ("9995", "insufficient_funds", "insufficient_funds"),
    "pm_card_authenticationRequired": ("3184", "ok", AUTHENTICATION_REQUIRED),
}


@on("POST /v1/customers")
def create_customer(account: Account, call: Call) -> Thing:
    customer = account.make(
        "customer",
        balance=0,
        currency=None,
        delinquent=False,
        default_source=None,
        tax_exempt="none",
        invoice_settings={
            "custom_fields": None,
            "default_payment_method": None,
            "footer": None,
            "rendering_options": None,
        },
        invoice_prefix=secrets.token_hex(4).upper(),
        next_invoice_sequence=1,
    )
    _change(account, customer, call.params)
    account.event("customer.created", customer, call)
    return customer


@on("POST /v1/customers/{customer}")
def update_customer(account: Account, call: Call) -> Thing:
    customer = account.find(call.arguments["customer"], "customer", "path")
    if customer.get("deleted"):
        raise StripeError(404, f"No such customer: '{customer['id']}'", "resource_missing", "id")
    param = "invoice_settings[default_payment_method]"
    method = (call.params.get("invoice_settings") or {}).get("default_payment_method")
    if method and account.find(method, "payment_method", param)["customer"] != customer["id"]:
        message = "The payment method must be attached to the customer first."
        raise StripeError(400, message, "resource_missing", param)
    _change(account, customer, call.params)
    account.event("customer.updated", customer, call)
    return customer


def _change(account: Account, customer: Thing, params: Thing) -> None:
    account.update(customer, {name: value for name, value in params.items() if name != "invoice_settings"})
    customer["invoice_settings"].update(params.get("invoice_settings") or {})


@on("DELETE /v1/customers/{customer}")
def delete_customer(account: Account, call: Call) -> Thing:
    customer = account.find(call.arguments["customer"], "customer", "path")
    account.event("customer.deleted", customer, call)
    return mark_deleted(customer)


# -- Payment methods


def card_error(outcome: str) -> StripeError:
    """What the API answers when a card is not good for it."""
    if outcome == AUTHENTICATION_REQUIRED:
        message = "Your card was declined. This transaction requires authentication."
        return StripeError(402, message, outcome, type="card_error", decline_code=outcome)
    return StripeError(402, "Your card was declined.", "card_declined", type="card_error", decline_code=outcome)


def new_card(account: Account, name: str) -> Thing:
    """A payment method of its own from one of Stripe's test payment methods."""
    last_four, _, outcome = TEST_METHODS[name]
    brand = "mastercard" if "mastercard" in name else "visa"
    card = account.document.blank_of("payment_method_card")
    card.update(brand=brand, display_brand=brand, last4=last_four, exp_month=12, exp_year=2040)
    card.update(country="US", funding="credit")
    method = account.make("payment_method", type="card", card=card)
    account.private_of(method)["outcome"] = outcome
    return method


def outcome_of(account: Account, method: str) -> str:
    """What a charge of a payment method leads to: "ok" or a reason."""
    return account.private_of(account.find(method, "payment_method", "payment_method")).get("outcome", "ok")


def attach_method(account: Account, name: str, customer: str | None, call: Call | None = None) -> Thing:
    """Attach one of Stripe's test payment methods, which makes a new one, or one that exists."""
    if name in TEST_METHODS:
        attaching = TEST_METHODS[name][1]
        if attaching != "ok":
            raise card_error(attaching)
        method = new_card(account, name)
    else:
        method = account.find(name, "payment_method", "path")
    method["customer"] = customer
    if customer:
        account.event("payment_method.attached", method, call)
    return method


@on("POST /v1/payment_methods/{payment_method}/attach")
def attach(account: Account, call: Call) -> Thing:
    account.find(call.params.get("customer", ""), "customer", "customer")
    return attach_method(account, call.arguments["payment_method"], call.params["customer"], call)


@on("POST /v1/payment_methods/{payment_method}/detach")
def detach(account: Account, call: Call) -> Thing:
    method = account.find(call.arguments["payment_method"], "payment_method", "path")
    for customer in account.all("customer", id=method["customer"]):
        settings = customer["invoice_settings"]
        if settings["default_payment_method"] == method["id"]:
            settings["default_payment_method"] = None
    method["customer"] = None
    account.event("payment_method.detached", method, call)
    return method


@on("GET /v1/customers/{customer}/payment_methods/{payment_method}")
def retrieve_method(account: Account, call: Call) -> Thing:
    return account.find(call.arguments["payment_method"], "payment_method", "path")


# -- Setup intents


def new_setup_intent(account: Account, **values: Any) -> Thing:
    return account.make(
        "setup_intent",
        status="requires_payment_method",
        usage="off_session",
        payment_method_types=["card"],
        client_secret=f"seti_secret_{secrets.token_hex(8)}",
        **values,
    )


@on("POST /v1/setup_intents")
def create_setup_intent(account: Account, call: Call) -> Thing:
    intent = new_setup_intent(account)
    account.update(intent, call.params)
    if call.params.get("confirm"):
        confirm_setup(account, intent, call.params["payment_method"], call)
    return intent


def confirm_setup(account: Account, intent: Thing, name: str, call: Call | None) -> Thing:
    """Keep a card for later; the attached payment method."""
    try:
        method = attach_method(account, name, intent["customer"], call)
    except StripeError as error:
        intent["last_setup_error"] = error.body["error"]
        account.event("setup_intent.setup_failed", intent, call)
        raise
    intent.update(status="succeeded", payment_method=method["id"], last_setup_error=None)
    account.event("setup_intent.succeeded", intent, call)
    return method
