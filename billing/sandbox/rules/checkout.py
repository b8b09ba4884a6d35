"""Checkout sessions, for saving a card or paying once, and sessions of the customer portal."""

from billing.sandbox.account import DAY, Account, Call
from billing.sandbox.document import Thing
from billing.sandbox.errors import StripeError
from billing.sandbox.rules.customers import (
    AUTHENTICATION_REQUIRED,
    TEST_METHODS,
    attach_method,
    card_error,
    confirm_setup,
    new_setup_intent,
)
from billing.sandbox.rules.payments import charge, new_payment_intent
from billing.sandbox.rules.registry import on

HOSTED = ("hosted", "hosted_page")


@on("POST /v1/checkout/sessions")
def create_session(account: Account, call: Call) -> Thing:
    params = call.params
    _check_session(account, params)
    is_setup = params.get("mode") == "setup"
    session = account.make(
        "checkout.session",
        expires_at=account.now() + DAY,
        mode="payment",
        payment_method_types=["card"],
        payment_status="no_payment_required" if is_setup else "unpaid",
        status="open",
    )
    account.update(session, {name: value for name, value in params.items() if name != "line_items"})
    session["url"] = f"{account.base}/checkout/{session['id']}"
    if is_setup:
        session["setup_intent"] = new_setup_intent(account, customer=params.get("customer"))["id"]
    else:
        lines = params.get("line_items") or []
        total = sum(line.get("quantity", 1) * line["price_data"].get("unit_amount", 0) for line in lines)
        currency = lines[0]["price_data"]["currency"] if lines else "usd"
        session.update(amount_subtotal=total, amount_total=total, currency=currency)
        account.private_of(session)["lines"] = lines
    return session


def _check_session(account: Account, params: Thing) -> None:
    if params.get("mode") == "setup":
        ways = ("currency", "payment_method_types", "allowed_payment_method_types")
        if not any(params.get(name) for name in ways):
            message = "Missing required param: currency (required in setup mode without payment method types)."
            raise StripeError(400, message, "parameter_missing", "currency")
        if params.get("line_items"):
            message = "line_items can't be used in setup mode."
            raise StripeError(400, message, "parameter_unknown", "line_items")
    elif params.get("mode") != "payment":
        raise StripeError(400, "The sandbox knows the modes setup and payment.", param="mode")
    elif not all("price_data" in line for line in params.get("line_items") or [{}]):
        raise StripeError(400, "The sandbox needs line_items with price_data.", "parameter_missing", "line_items")
    if params.get("ui_mode", HOSTED[0]) in HOSTED and "success_url" not in params:
        raise StripeError(400, "Missing required param: success_url.", "parameter_missing", "success_url")
    if "customer" in params:
        account.find(params["customer"], "customer", "customer")


@on("POST /v1/checkout/sessions/{session}/expire")
def expire_session(account: Account, call: Call) -> Thing:
    session = account.find(call.arguments["session"], "checkout.session", "path")
    if session["status"] != "open":
        raise StripeError(400, "Only Checkout Sessions with a status in [open] can be expired.")
    expire(account, session, call)
    return session


def expire(account: Account, session: Thing, call: Call | None) -> None:
    session.update(status="expired", url=None)
    account.event("checkout.session.expired", session, call)


def complete_session(account: Account, session: Thing, name: str, *, confirmed: bool) -> None:
    """The customer entered a card on the Checkout page; `confirmed` when the bank was told that it is theirs."""
    if session["status"] != "open":
        raise StripeError(400, "This Checkout page has expired or was used before.")
    if TEST_METHODS[name][2] == AUTHENTICATION_REQUIRED and not confirmed:
        raise card_error(AUTHENTICATION_REQUIRED)
    if session["mode"] == "setup":
        confirm_setup(account, account.get(session["setup_intent"]), name, None)
    else:
        _pay_session(account, session, name)
    session["status"] = "complete"
    account.event("checkout.session.completed", session)


def _pay_session(account: Account, session: Thing, name: str) -> None:
    outcome = TEST_METHODS[name][2]
    if outcome not in ("ok", AUTHENTICATION_REQUIRED):
        raise card_error(outcome)
    method = attach_method(account, name, session["customer"])
    intent = new_payment_intent(account, session["amount_total"], session["currency"], session["customer"])
    charge(account, intent, method["id"], None)
    session.update(payment_status="paid", payment_intent=intent["id"])


def begin_bank_debit(account: Account, session: Thing) -> None:
    """The customer paid by their bank, which will say in days whether the money comes."""
    if session["status"] != "open" or session["mode"] != "payment":
        raise StripeError(400, "This Checkout page has expired, was used before or takes no payment.")
    intent = new_payment_intent(account, session["amount_total"], session["currency"], session["customer"])
    intent["status"] = "processing"
    session.update(status="complete", payment_intent=intent["id"])
    account.event("checkout.session.completed", session)


def end_bank_debit(account: Account, session: Thing, *, succeeds: bool) -> None:
    intent = account.get(session["payment_intent"])
    if intent["status"] != "processing":
        raise StripeError(400, f"The payment is not under way: it is {intent['status']}.")
    if succeeds:
        charge(account, intent, attach_method(account, "pm_card_visa", session["customer"])["id"], None)
        session["payment_status"] = "paid"
    else:
        intent["status"] = "requires_payment_method"
    account.event(f"checkout.session.async_payment_{'succeeded' if succeeds else 'failed'}", session)


def refuse_authentication(account: Account, session: Thing) -> None:
    """The customer told the bank that it was not them."""
    if session["mode"] == "setup" and session["status"] == "open":
        intent = account.get(session["setup_intent"])
        error = card_error(AUTHENTICATION_REQUIRED)
        intent["last_setup_error"] = error.body["error"]
        account.event("setup_intent.setup_failed", intent)
    raise StripeError(402, "The card was not confirmed. Nothing was saved or charged.", type="card_error")


# -- The customer portal


@on("POST /v1/billing_portal/sessions")
def create_portal_session(account: Account, call: Call) -> Thing:
    customer = account.find(call.params.get("customer", ""), "customer", "customer")
    return_url = call.params.get("return_url")
    session = account.make(
        "billing_portal.session", customer=customer["id"], return_url=return_url, configuration="bpc_sbx"
    )
    session["url"] = f"{account.base}/portal/{session['id']}"
    return session


def replace_card(account: Account, session: Thing, name: str) -> None:
    """The customer entered another card in the portal."""
    method = attach_method(account, name, session["customer"])
    customer = account.get(session["customer"])
    customer["invoice_settings"]["default_payment_method"] = method["id"]
    account.event("customer.updated", customer)
