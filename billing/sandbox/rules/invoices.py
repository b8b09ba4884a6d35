"""Invoices and their states: draft -> open -> paid, void or uncollectible; who may change what, when."""

from billing.sandbox.account import DAY, Account, Call
from billing.sandbox.document import Thing
from billing.sandbox.errors import StripeError
from billing.sandbox.rules.generic import mark_deleted
from billing.sandbox.rules.invoice_items import check_currency, find_draft, refresh_totals
from billing.sandbox.rules.payments import expect_payment, pay, settle
from billing.sandbox.rules.registry import on

# Smallest amounts that Stripe charges; less is carried over to the next invoice through the customer's balance.
MINIMUM_CHARGE = {"usd": 50, "eur": 50, "gbp": 30, "cad": 50, "aud": 50, "chf": 50, "jpy": 50}
# Parameters that are not simply copied into the invoice.
WORKED_OUT = {
    "customer",
    "currency",
    "collection_method",
    "auto_advance",
    "due_date",
    "default_tax_rates",
    "automatic_tax",
    "payment_settings",
    "discounts",
}
STILL_OPEN_TO_CHANGE = {
    "metadata",
    "auto_advance",
    "expand",
    "default_payment_method",
    "payment_settings",
}


@on("POST /v1/invoices")
def create_invoice(account: Account, call: Call) -> Thing:
    params = call.params
    customer = account.find(params.get("customer", ""), "customer", "customer")
    _check_terms(params)
    _check_number(account, params.get("number"))
    currency = params.get("currency") or customer["currency"] or "usd"
    check_currency(customer, currency)
    invoice = _new_draft(account, params, customer, currency)
    account.update(invoice, {name: value for name, value in params.items() if name not in WORKED_OUT})
    if params.get("pending_invoice_items_behavior") == "include":
        for item in account.all("invoiceitem", customer=customer["id"], invoice=None, currency=currency):
            item["invoice"] = invoice["id"]
    refresh_totals(account, invoice)
    account.event("invoice.created", invoice, call)
    return invoice


def _check_terms(params: Thing) -> None:
    how = params.get("collection_method", "charge_automatically")
    has_due = "days_until_due" in params or "due_date" in params
    if how == "charge_automatically" and has_due:
        message = "days_until_due and due_date are only for collection_method=send_invoice."
        raise StripeError(400, message, param="days_until_due")
    if how == "send_invoice" and not has_due:
        message = "If invoice collection_method is 'send_invoice', pass days_until_due or due_date."
        raise StripeError(400, message, "parameter_missing", "days_until_due")


def _check_number(account: Account, number: str | None) -> None:
    if account.options.unique_numbers and number and account.all("invoice", number=number):
        message = f"The invoice number {number} is already in use."
        raise StripeError(400, message, "resource_already_exists", "number")


def _new_draft(account: Account, params: Thing, customer: Thing, currency: str) -> Thing:
    now = account.now()
    taxed = bool((params.get("automatic_tax") or {}).get("enabled"))
    tax_status = ("complete" if customer.get("address") else "requires_location_inputs") if taxed else None
    due = params.get("due_date") or (now + params["days_until_due"] * DAY if "days_until_due" in params else None)
    return account.make(
        "invoice",
        account_country="US",
        account_name=account.options.seller,
        auto_advance=params.get("auto_advance", False),
        automatic_tax={
            "enabled": taxed,
            "disabled_reason": None,
            "liability": {"type": "self"} if taxed else None,
            "provider": "stripe" if taxed else None,
            "status": tax_status,
        },
        billing_reason="manual",
        collection_method=params.get("collection_method", "charge_automatically"),
        currency=currency,
        customer=customer["id"],
        customer_address=customer.get("address"),
        customer_email=customer.get("email"),
        customer_name=customer.get("name"),
        customer_tax_exempt="none",
        default_tax_rates=[
            account.find(rate, "tax_rate", "default_tax_rates") for rate in params.get("default_tax_rates") or []
        ],
        due_date=due,
        issuer={"type": "self"},
        period_start=now,
        period_end=now,
        status="draft",
    )


@on("POST /v1/invoices/{invoice}")
def update_invoice(account: Account, call: Call) -> Thing:
    invoice = account.find(call.arguments["invoice"], "invoice", "path")
    if invoice.get("deleted") or (invoice["status"] != "draft" and set(call.params) - STILL_OPEN_TO_CHANGE):
        message = "You can no longer change these fields of a finalized invoice."
        raise StripeError(400, message, "invoice_not_editable")
    unchanged = {"default_tax_rates", "automatic_tax", "payment_settings", "discounts"}
    account.update(invoice, {name: value for name, value in call.params.items() if name not in unchanged})
    if "days_until_due" in call.params:
        invoice["due_date"] = invoice["created"] + call.params["days_until_due"] * DAY
    account.event("invoice.updated", invoice, call)
    return invoice


@on("DELETE /v1/invoices/{invoice}")
def delete_invoice(account: Account, call: Call) -> Thing:
    invoice = find_draft(account, call.arguments["invoice"])
    for item in account.all("invoiceitem", invoice=invoice["id"]):
        mark_deleted(item)
    account.event("invoice.deleted", invoice, call)
    return mark_deleted(invoice)


# -- Finalising


@on("POST /v1/invoices/{invoice}/finalize")
def finalize_invoice(account: Account, call: Call) -> Thing:
    invoice = account.find(call.arguments["invoice"], "invoice", "path")
    if invoice.get("deleted") or invoice["status"] != "draft":
        raise StripeError(400, "This invoice is already finalized, you can't re-finalize a non-draft invoice.")
    if "auto_advance" in call.params:
        invoice["auto_advance"] = call.params["auto_advance"]
    finalize(account, invoice, call)
    return invoice


def finalize(account: Account, invoice: Thing, call: Call | None) -> None:
    """Freeze a draft, number it and ask for payment; a draft that cannot be finalised says why and stays one."""
    refresh_totals(account, invoice)
    customer = account.get(invoice["customer"])
    if customer.get("deleted"):
        raise StripeError(400, f"No such customer: '{customer['id']}'", "resource_missing", "customer")
    if invoice["automatic_tax"]["status"] == "requires_location_inputs":
        _fail_finalization(account, invoice, call)
    if not invoice["number"]:
        invoice["number"] = f"{customer['invoice_prefix']}-{customer['next_invoice_sequence']:04d}"
        customer["next_invoice_sequence"] += 1
    customer["currency"] = customer["currency"] or invoice["currency"]
    _use_balance(invoice, customer)
    invoice.update(
        status="open",
        hosted_invoice_url=f"{account.base}/invoice/{invoice['id']}",
        effective_at=account.now(),
        last_finalization_error=None,
    )
    invoice["status_transitions"]["finalized_at"] = account.now()
    if invoice["amount_due"]:
        expect_payment(account, invoice)
    account.event("invoice.finalized", invoice, call)
    if not invoice["amount_due"]:
        settle(account, invoice, call)


def _fail_finalization(account: Account, invoice: Thing, call: Call | None) -> None:
    message = "The customer's location isn't recognized. Set a valid customer address to calculate tax automatically."
    error = StripeError(400, message, "customer_tax_location_invalid")
    invoice["last_finalization_error"] = error.body["error"]
    account.event("invoice.finalization_failed", invoice, call)
    raise error


def _use_balance(invoice: Thing, customer: Thing) -> None:
    """Apply the customer's balance; what is too small to charge goes back into it."""
    invoice["ending_balance"] = min(invoice["starting_balance"] + invoice["total"], 0)
    if 0 < invoice["amount_due"] < MINIMUM_CHARGE.get(invoice["currency"], 0):
        invoice.update(ending_balance=invoice["amount_due"], amount_due=0, amount_remaining=0)
    customer["balance"] = invoice["ending_balance"]


@on("POST /v1/invoices/{invoice}/pay")
def pay_invoice(account: Account, call: Call) -> Thing:
    invoice = account.find(call.arguments["invoice"], "invoice", "path")
    if invoice["status"] == "draft":
        finalize(account, invoice, call)
        if invoice["status"] == "paid":
            return invoice
    pay(account, invoice, call.params, call)
    return invoice


@on("POST /v1/invoices/{invoice}/send")
def send_invoice(account: Account, call: Call) -> Thing:
    invoice = account.find(call.arguments["invoice"], "invoice", "path")
    if invoice["collection_method"] != "send_invoice":
        message = "You can only manually send an invoice if its collection method is 'send_invoice'."
        raise StripeError(400, message)
    if invoice["status"] == "draft":
        finalize(account, invoice, call)
    account.event("invoice.sent", invoice, call)
    return invoice


@on("POST /v1/invoices/{invoice}/void")
def void_invoice(account: Account, call: Call) -> Thing:
    invoice = account.find(call.arguments["invoice"], "invoice", "path")
    _end(account, invoice, "void", ("open", "uncollectible"))
    invoice["status_transitions"]["voided_at"] = account.now()
    account.event("invoice.voided", invoice, call)
    return invoice


@on("POST /v1/invoices/{invoice}/mark_uncollectible")
def mark_uncollectible(account: Account, call: Call) -> Thing:
    invoice = account.find(call.arguments["invoice"], "invoice", "path")
    _end(account, invoice, "uncollectible", ("open",))
    invoice["status_transitions"]["marked_uncollectible_at"] = account.now()
    account.event("invoice.marked_uncollectible", invoice, call)
    return invoice


def _end(account: Account, invoice: Thing, status: str, from_statuses: tuple[str, ...]) -> None:
    if invoice.get("deleted") or invoice["status"] not in from_statuses:
        message = f"You can only pass in open invoices. This invoice isn't open ({invoice['status']})."
        raise StripeError(400, message)
    invoice.update(status=status, auto_advance=False, next_payment_attempt=None)
    if status == "void":
        invoice["amount_remaining"] = 0
        for payment in account.all("invoice_payment", invoice=invoice["id"], status="open"):
            payment["status"] = "canceled"
            payment["status_transitions"]["canceled_at"] = account.now()
            account.get(payment["payment"]["payment_intent"])["status"] = "canceled"
