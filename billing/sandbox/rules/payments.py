"""Paying invoices: payment intents, charges, declined cards, cards that ask for authentication, refunds."""

import secrets

from billing.sandbox.account import DAY, Account, Call
from billing.sandbox.document import Thing
from billing.sandbox.errors import StripeError
from billing.sandbox.rules.customers import AUTHENTICATION_REQUIRED, TEST_METHODS, card_error, new_card, outcome_of
from billing.sandbox.rules.registry import on

PAYABLE = ("open", "uncollectible")
MOST_ATTEMPTS = 4
WAIT_BETWEEN_ATTEMPTS = 3 * DAY


def new_payment_intent(account: Account, amount: int, currency: str, customer: str | None) -> Thing:
    return account.make(
        "payment_intent",
        status="requires_payment_method",
        amount=amount,
        currency=currency,
        customer=customer,
        client_secret=f"pi_secret_{secrets.token_hex(8)}",
    )


def expect_payment(account: Account, invoice: Thing) -> None:
    """A finalised invoice waits for a payment through an intent of its own."""
    due = invoice["amount_due"]
    intent = new_payment_intent(account, due, invoice["currency"], invoice["customer"])
    invoice["confirmation_secret"] = {"client_secret": intent["client_secret"], "type": "payment_intent"}
    account.make(
        "invoice_payment",
        invoice=invoice["id"],
        amount_requested=due,
        currency=invoice["currency"],
        is_default=True,
        status="open",
        payment={"type": "payment_intent", "payment_intent": intent["id"]},
        status_transitions={"canceled_at": None, "paid_at": None},
    )


def settle(account: Account, invoice: Thing, call: Call | None) -> None:
    """The invoice is paid."""
    invoice.update(status="paid", amount_paid=invoice["amount_due"], amount_remaining=0, auto_advance=False)
    invoice["next_payment_attempt"] = None
    invoice["status_transitions"]["paid_at"] = account.now()
    for payment in account.all("invoice_payment", invoice=invoice["id"], status="open"):
        payment.update(status="paid", amount_paid=invoice["amount_paid"])
        payment["status_transitions"]["paid_at"] = account.now()
        account.event("invoice_payment.paid", payment, call)
    account.event("invoice.paid", invoice, call)
    account.event("invoice.payment_succeeded", invoice, call)


def pay(account: Account, invoice: Thing, params: Thing, call: Call | None) -> None:
    """One attempt to pay: with the given payment method, the invoice's or the customer's default."""
    if invoice["status"] == "paid":
        raise StripeError(400, "Invoice is already paid")
    if invoice.get("deleted") or invoice["status"] not in PAYABLE:
        raise StripeError(400, f"You can't pay a {invoice['status']} invoice.")
    if params.get("paid_out_of_band"):
        invoice["amount_paid_off_stripe"] = invoice["amount_due"]
        settle(account, invoice, call)
        return
    default = account.get(invoice["customer"])["invoice_settings"]["default_payment_method"]
    chosen = params.get("payment_method") or invoice.get("default_payment_method") or default
    invoice.update(attempted=True, attempt_count=invoice["attempt_count"] + 1)
    if chosen is None:
        _plan_next_attempt(account, invoice)
        account.event("invoice.payment_failed", invoice, call)
        message = "This customer has no attached payment source or default payment method."
        raise StripeError(400, message, "resource_missing")
    if chosen in TEST_METHODS:
        chosen = new_card(account, chosen)["id"]
    _charge_invoice(account, invoice, chosen, call)


def _charge_invoice(account: Account, invoice: Thing, method: str, call: Call | None) -> None:
    outcome = outcome_of(account, method)
    intent = intent_of(account, invoice)
    if outcome != "ok":
        _decline(account, invoice, intent, outcome, call)
    charge(account, intent, method, call)
    settle(account, invoice, call)


def intent_of(account: Account, invoice: Thing) -> Thing:
    """The payment intent that an open invoice waits for."""
    payment = account.all("invoice_payment", invoice=invoice["id"], status="open")[0]
    return account.get(payment["payment"]["payment_intent"])


def _decline(account: Account, invoice: Thing, intent: Thing, outcome: str, call: Call | None) -> None:
    error = card_error(outcome)
    asks = outcome == AUTHENTICATION_REQUIRED
    intent.update(
        status="requires_action" if asks else "requires_payment_method", last_payment_error=error.body["error"]
    )
    _plan_next_attempt(account, invoice)
    account.event("payment_intent.requires_action" if asks else "payment_intent.payment_failed", intent, call)
    account.event("invoice.payment_action_required" if asks else "invoice.payment_failed", invoice, call)
    raise error


def _plan_next_attempt(account: Account, invoice: Thing) -> None:
    again = invoice["auto_advance"] and invoice["attempt_count"] < MOST_ATTEMPTS
    automatic = again and invoice["collection_method"] == "charge_automatically"
    invoice["next_payment_attempt"] = account.now() + WAIT_BETWEEN_ATTEMPTS if automatic else None


def finish_authentication(account: Account, invoice: Thing, *, confirmed: bool) -> None:
    """The customer answered the bank's question on the hosted page."""
    intent = intent_of(account, invoice)
    if intent["status"] != "requires_action":
        raise StripeError(400, "There is nothing to confirm.")
    if not confirmed:
        intent["status"] = "requires_payment_method"
        account.event("payment_intent.payment_failed", intent)
        account.event("invoice.payment_failed", invoice)
        raise StripeError(402, "The payment was not confirmed. Nothing was charged.", type="card_error")
    charge(account, intent, new_card(account, "pm_card_authenticationRequired")["id"], None)
    settle(account, invoice, None)


def charge(account: Account, intent: Thing, method: str, call: Call | None) -> None:
    """Take the money of a payment intent."""
    made = account.make(
        "charge",
        amount=intent["amount"],
        amount_captured=intent["amount"],
        billing_details=account.document.blank_of("billing_details"),
        captured=True,
        currency=intent["currency"],
        customer=intent["customer"],
        paid=True,
        payment_intent=intent["id"],
        payment_method=method,
        status="succeeded",
    )
    intent.update(
        status="succeeded",
        payment_method=method,
        amount_received=intent["amount"],
        latest_charge=made["id"],
        last_payment_error=None,
    )
    account.event("charge.succeeded", made, call)
    account.event("payment_intent.succeeded", intent, call)


# -- Refunds


@on("POST /v1/refunds")
def create_refund(account: Account, call: Call) -> Thing:
    params = call.params
    if "charge" in params and "payment_intent" not in params:
        params["payment_intent"] = account.find(params["charge"], "charge", "charge")["payment_intent"]
    intent = account.find(params.get("payment_intent", ""), "payment_intent", "payment_intent")
    if intent["status"] != "succeeded":
        message = f"This PaymentIntent ({intent['id']}) does not have a successful charge to refund."
        raise StripeError(400, message, param="payment_intent")
    left = intent["amount"] - sum(refund["amount"] for refund in account.all("refund", payment_intent=intent["id"]))
    amount = params.get("amount", left)
    if not 0 < amount <= left:
        message = f"Refund amount ({amount}) is greater than unrefunded amount ({left})."
        raise StripeError(400, message, "charge_already_refunded" if left == 0 else None, "amount")
    return refund_intent(account, intent, amount, params, call)


def refund_intent(account: Account, intent: Thing, amount: int, params: Thing, call: Call) -> Thing:
    """Give back part of a payment."""
    charged = account.get(intent["latest_charge"])
    refund = account.make(
        "refund",
        amount=amount,
        charge=charged["id"],
        currency=intent["currency"],
        payment_intent=intent["id"],
        reason=params.get("reason"),
        status="succeeded",
    )
    account.update(refund, {"metadata": params.get("metadata") or {}})
    charged["amount_refunded"] += amount
    charged["refunded"] = charged["amount_refunded"] == charged["amount"]
    account.event("refund.created", refund, call)
    account.event("charge.refunded", charged, call)
    return refund


@on("POST /v1/refunds/{refund}")
def update_refund(account: Account, call: Call) -> Thing:
    refund = account.find(call.arguments["refund"], "refund", "path")
    account.update(refund, call.params)
    account.event("refund.updated", refund, call)
    return refund
