"""Credit notes: less to pay on an open invoice, or money back, credit or an outside refund on a paid one."""

from billing.sandbox.account import Account, Call
from billing.sandbox.document import Thing
from billing.sandbox.errors import StripeError
from billing.sandbox.rules.payments import refund_intent, settle
from billing.sandbox.rules.registry import on

CREDITABLE = ("open", "paid", "uncollectible")


@on("POST /v1/credit_notes")
def create_credit_note(account: Account, call: Call) -> Thing:
    params = call.params
    invoice = account.find(params["invoice"], "invoice", "invoice")
    amount = _checked_amount(account, invoice, params)
    is_paid = invoice["status"] == "paid"
    note = _new_note(account, invoice, params, amount, is_paid=is_paid)
    invoice[f"{'post' if is_paid else 'pre'}_payment_credit_notes_amount"] += amount
    account.get(invoice["customer"])["balance"] -= params.get("credit_amount", 0)
    if params.get("refund_amount"):
        note["refunds"] = [_refund(account, invoice, params["refund_amount"], call)]
    account.event("credit_note.created", note, call)
    if not is_paid:
        invoice["amount_due"] -= amount
        invoice["amount_remaining"] -= amount
        if invoice["amount_remaining"] == 0:
            settle(account, invoice, call)
    return note


def _checked_amount(account: Account, invoice: Thing, params: Thing) -> int:
    """What the note comes to, when Stripe would accept it."""
    if invoice["status"] not in CREDITABLE:
        raise StripeError(400, f"A credit note needs a finalized invoice; this one is {invoice['status']}.")
    amount = params.get("amount") or sum(_line_amount(line) for line in params.get("lines") or [])
    noted = sum(note["total"] for note in account.all("credit_note", invoice=invoice["id"], status="issued"))
    if not 0 < amount <= invoice["total"] - noted:
        message = f"The sum of credit amounts must be positive and at most {invoice['total'] - noted}."
        raise StripeError(400, message, param="amount")
    if invoice["status"] != "paid":
        if amount > invoice["amount_remaining"]:
            message = "The credit note is larger than what remains to be paid."
            raise StripeError(400, message, param="amount")
        return amount
    given = sum(params.get(name, 0) for name in ("refund_amount", "credit_amount", "out_of_band_amount"))
    given += sum(refund.get("amount_refunded", 0) for refund in params.get("refunds") or [])
    if given != amount:
        message = f"refund_amount, credit_amount and out_of_band_amount must add up to {amount}; got {given}."
        raise StripeError(400, message)
    return amount


def _line_amount(line: Thing) -> int:
    return line.get("amount") or line.get("unit_amount", 0) * line.get("quantity", 1)


def _new_note(account: Account, invoice: Thing, params: Thing, amount: int, *, is_paid: bool) -> Thing:
    count = len(account.all("credit_note", invoice=invoice["id"])) + 1
    note = account.make(
        "credit_note",
        amount=amount,
        currency=invoice["currency"],
        customer=invoice["customer"],
        invoice=invoice["id"],
        memo=params.get("memo"),
        metadata=params.get("metadata") or {},
        number=f"{invoice['number']}-CN-{count:02d}",
        pdf=f"{account.base}/invoice/{invoice['id']}",
        post_payment_amount=amount if is_paid else 0,
        pre_payment_amount=0 if is_paid else amount,
        reason=params.get("reason"),
        status="issued",
        subtotal=amount,
        total=amount,
        type="post_payment" if is_paid else "pre_payment",
    )
    lines = [_note_line(account, line) for line in params.get("lines") or []]
    note["lines"] = account.page(lines, f"/v1/credit_notes/{note['id']}/lines")
    return note


def _note_line(account: Account, line: Thing) -> Thing:
    return account.make(
        "credit_note_line_item",
        amount=_line_amount(line),
        description=line.get("description"),
        invoice_line_item=line.get("invoice_line_item"),
        quantity=line.get("quantity"),
        type=line["type"],
    )


def _refund(account: Account, invoice: Thing, amount: int, call: Call) -> Thing:
    paid = account.all("invoice_payment", invoice=invoice["id"], status="paid")
    if not paid:
        raise StripeError(400, "This invoice has no payment to refund.", param="refund_amount")
    intent = account.get(paid[0]["payment"]["payment_intent"])
    refund = refund_intent(account, intent, amount, {}, call)
    return {"amount_refunded": amount, "payment_record_refund": None, "refund": refund["id"], "type": "refund"}


@on("POST /v1/credit_notes/{id}")
def update_credit_note(account: Account, call: Call) -> Thing:
    note = account.find(call.arguments["id"], "credit_note", "path")
    account.update(note, call.params)
    account.event("credit_note.updated", note, call)
    return note


@on("POST /v1/credit_notes/{id}/void")
def void_credit_note(account: Account, call: Call) -> Thing:
    note = account.find(call.arguments["id"], "credit_note", "path")
    if note["status"] != "issued" or note["type"] != "pre_payment":
        raise StripeError(400, "Only an issued credit note of an open invoice can be voided.")
    note.update(status="void", voided_at=account.now())
    account.event("credit_note.voided", note, call)
    return note
