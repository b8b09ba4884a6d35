"""Invoice items and what a draft's lines, taxes and totals come to: each line is rounded, then all are summed."""

from decimal import ROUND_HALF_UP, Decimal
from typing import Any

from billing.sandbox.account import Account, Call
from billing.sandbox.document import Thing
from billing.sandbox.errors import StripeError
from billing.sandbox.rules.generic import cut_page, mark_deleted
from billing.sandbox.rules.registry import on

MOST_ITEMS = 250
LINES_IN_INVOICE = 10
COPIED = (
    "amount",
    "currency",
    "description",
    "discountable",
    "metadata",
    "period",
    "pricing",
    "quantity",
    "quantity_decimal",
)
WAYS_TO_PRICE = ("amount", "unit_amount_decimal", "price_data", "pricing")


def half_up(value: Decimal) -> int:
    return int(value.quantize(Decimal(1), ROUND_HALF_UP))


def plain(number: Decimal) -> str:
    """A decimal as Stripe writes it: no exponent, no trailing zeros."""
    text = format(number, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


def find_draft(account: Account, id: str, param: str = "path") -> Thing:
    """An invoice that may still be changed."""
    invoice = account.find(id, "invoice", param)
    if invoice.get("deleted"):
        raise StripeError(404, f"No such invoice: '{id}'", "resource_missing", "id")
    if invoice["status"] != "draft":
        message = f"Invoice {id} is {invoice['status']} and can no longer be changed."
        raise StripeError(400, message, "invoice_not_editable")
    return invoice


def check_currency(customer: Thing, currency: str) -> None:
    """Billing locks a customer to the currency of its first finalised invoice."""
    if customer["currency"] not in (None, currency):
        message = f"You cannot combine currencies on a single customer. This customer uses {customer['currency']}."
        raise StripeError(400, message, param="currency")


@on("POST /v1/invoiceitems")
def create_item(account: Account, call: Call) -> Thing:
    params = call.params
    customer = account.find(params.get("customer", ""), "customer", "customer")
    invoice = find_draft(account, params["invoice"], "invoice") if "invoice" in params else None
    given = params.get("currency") or (params.get("price_data") or {}).get("currency")
    currency = given or (invoice and invoice["currency"]) or customer["currency"] or "usd"
    check_currency(customer, currency)
    if invoice and invoice["customer"] != customer["id"]:
        raise StripeError(400, "The invoice belongs to another customer.", param="invoice")
    if invoice and invoice["currency"] != currency:
        message = f"The currency of the item ({currency}) must match the invoice's ({invoice['currency']})."
        raise StripeError(400, message, param="currency")
    item = new_item(account, params, customer["id"], currency, invoice, "amount")
    if invoice:
        _refresh_or_undo(account, invoice, [item])
    account.event("invoiceitem.created", item, call)
    return item


@on("POST /v1/invoiceitems/{invoiceitem}")
def update_item(account: Account, call: Call) -> Thing:
    item = account.find(call.arguments["invoiceitem"], "invoiceitem", "path")
    _change_item(account, item, call.params)
    account.event("invoiceitem.updated", item, call)
    return item


@on("POST /v1/invoices/{invoice}/lines/{line_item_id}")
def update_line(account: Account, call: Call) -> Thing:
    line = account.find(call.arguments["line_item_id"], "line_item", "path")
    _change_item(account, account.find(_item_id(line["id"]), "invoiceitem", "path"), call.params)
    return account.get(line["id"])


def _change_item(account: Account, item: Thing, params: Thing) -> None:
    invoice = find_draft(account, item["invoice"]) if item["invoice"] else None
    if any(name in params for name in WAYS_TO_PRICE):
        amount, unit, quantity = _priced(account, params, "amount")
        item.update(amount=amount, net_amount=amount, quantity=int(quantity), quantity_decimal=plain(quantity))
        item["pricing"]["unit_amount_decimal"] = plain(unit)
    account.update(item, {name: params[name] for name in ("description", "metadata", "period") if name in params})
    if invoice:
        refresh_totals(account, invoice)


@on("DELETE /v1/invoiceitems/{invoiceitem}")
def delete_item(account: Account, call: Call) -> Thing:
    item = account.find(call.arguments["invoiceitem"], "invoiceitem", "path")
    invoice = find_draft(account, item["invoice"]) if item["invoice"] else None
    answer = mark_deleted(item)
    account.event("invoiceitem.deleted", item, call)
    if invoice:
        refresh_totals(account, invoice)
    return answer


@on("POST /v1/invoices/{invoice}/add_lines")
def add_lines(account: Account, call: Call) -> Thing:
    """All lines of a call or none."""
    invoice = find_draft(account, call.arguments["invoice"])
    made: list[Thing] = []
    try:
        for index, line in enumerate(call.params["lines"]):
            if "invoice_item" in line:
                account.find(line["invoice_item"], "invoiceitem", "invoice_item")["invoice"] = invoice["id"]
            else:
                param = f"lines[{index}]"
                made.append(new_item(account, line, invoice["customer"], invoice["currency"], invoice, param))
    except StripeError:
        for item in made:
            account.remove(item)
        raise
    _refresh_or_undo(account, invoice, made)
    if call.params.get("invoice_metadata"):
        account.update(invoice, {"metadata": call.params["invoice_metadata"]})
    account.event("invoice.updated", invoice, call)
    return invoice


def _refresh_or_undo(account: Account, invoice: Thing, made: list[Thing]) -> None:
    try:
        refresh_totals(account, invoice)
    except StripeError:
        for item in made:
            account.remove(item)
        raise


@on("POST /v1/invoices/{invoice}/remove_lines")
def remove_lines(account: Account, call: Call) -> Thing:
    invoice = find_draft(account, call.arguments["invoice"])
    for line in call.params["lines"]:
        item = account.find(_item_id(line["id"]), "invoiceitem", "lines")
        if line["behavior"] == "delete":
            mark_deleted(item)
        else:
            item["invoice"] = None
    refresh_totals(account, invoice)
    account.event("invoice.updated", invoice, call)
    return invoice


@on("GET /v1/invoices/{invoice}/lines")
def list_lines(account: Account, call: Call) -> Thing:
    invoice = account.find(call.arguments["invoice"], "invoice", "path")
    lines = account.all("line_item", invoice=invoice["id"])
    return cut_page(account, lines, call, call.params.get("starting_after"), call.params.get("ending_before"))


# -- What an item costs


def new_item(account: Account, params: Thing, customer: str, currency: str, invoice: Thing | None, param: str) -> Thing:
    """A stored invoice item from the parameters of an item or a line."""
    amount, unit, quantity = _priced(account, params, param)
    period = params.get("period") or {"start": account.now(), "end": account.now()}
    if period["end"] < period["start"]:
        raise StripeError(400, "The period's end must not be before its start.", param="period")
    price = (params.get("pricing") or {}).get("price") or "price_sbx_inline"
    item = account.make(
        "invoiceitem",
        amount=amount,
        net_amount=amount,
        currency=currency,
        customer=customer,
        invoice=invoice and invoice["id"],
        date=account.now(),
        description=params.get("description"),
        discountable=params.get("discountable", amount >= 0),
        discounts=[],
        metadata=params.get("metadata") or {},
        period=period,
        pricing={
            "type": "price_details",
            "unit_amount_decimal": plain(unit),
            "price_details": {"price": price, "product": "prod_sbx_inline"},
        },
        proration=False,
        quantity=int(quantity),
        quantity_decimal=plain(quantity),
        tax_rates=[account.find(rate, "tax_rate", "tax_rates") for rate in params.get("tax_rates") or []],
    )
    account.private_of(item)["tax_amounts"] = params.get("tax_amounts") or []
    return item


def _priced(account: Account, params: Thing, param: str) -> tuple[int, Decimal, Decimal]:
    """(amount, unit amount, quantity), from exactly one way of saying it."""
    _check_exclusive(params, param)
    quantity = Decimal(params["quantity_decimal"] if "quantity_decimal" in params else params.get("quantity", 1))
    if quantity < 0:
        raise StripeError(400, "The quantity can't be negative.", "parameter_invalid_integer", param)
    if "amount" in params:
        return params["amount"], Decimal(params["amount"]), Decimal(1)
    unit = _unit_amount(account, params)
    return half_up(unit * quantity), unit, quantity


def _check_exclusive(params: Thing, param: str) -> None:
    ways = [name for name in WAYS_TO_PRICE if name in params]
    if len(ways) != 1:
        message = f"Pass exactly one of {', '.join(WAYS_TO_PRICE)}; got {', '.join(ways) or 'none'}."
        raise StripeError(400, message, "parameters_exclusive", param)
    for pair in (("quantity", "quantity_decimal"), ("amount", "quantity"), ("amount", "quantity_decimal")):
        if all(name in params for name in pair):
            message = f"You may only specify one of these parameters: {', '.join(pair)}."
            raise StripeError(400, message, "parameters_exclusive", param)


def _unit_amount(account: Account, params: Thing) -> Decimal:
    if "pricing" in params:
        price = account.find(params["pricing"].get("price", ""), "price", "pricing[price]")
        exact: str | None = price["unit_amount_decimal"]
        return Decimal(price["unit_amount"] or 0 if exact is None else exact)
    given = params.get("price_data", params)
    if "price_data" in params and ("unit_amount" in given) == ("unit_amount_decimal" in given):
        message = "Pass exactly one of unit_amount and unit_amount_decimal."
        raise StripeError(400, message, "parameters_exclusive", "price_data")
    return Decimal(given["unit_amount_decimal"] if "unit_amount_decimal" in given else given["unit_amount"])


# -- What a draft comes to


def refresh_totals(account: Account, invoice: Thing) -> None:
    """Work out a draft's lines, taxes and totals anew from its items."""
    items = account.all("invoiceitem", invoice=invoice["id"])
    if len(items) > MOST_ITEMS:
        raise StripeError(400, f"An invoice can have at most {MOST_ITEMS} items.", "invoice_line_limit")
    current = {_line_id(item["id"]) for item in items}
    for line in account.all("line_item", invoice=invoice["id"]):
        if line["id"] not in current:
            account.remove(line)
    lines = [_line(account, invoice, item) for item in items]
    for line in lines:
        account.replace(line)
    taxes = _summed_taxes(lines)
    subtotal = sum(line["amount"] for line in lines)
    total = subtotal + sum(tax["amount"] for tax in taxes if tax["tax_behavior"] == "exclusive")
    untaxed = total - sum(tax["amount"] for tax in taxes)
    balance = account.get(invoice["customer"]).get("balance") or 0
    due = max(total + balance, 0)
    shown = account.page(lines, f"/v1/invoices/{invoice['id']}/lines", LINES_IN_INVOICE)
    invoice.update(
        lines=shown,
        subtotal=subtotal,
        subtotal_excluding_tax=untaxed,
        total=total,
        total_excluding_tax=untaxed,
        total_taxes=taxes,
        total_discount_amounts=[],
        amount_due=due,
        amount_remaining=due,
        amount_paid=0,
        starting_balance=balance,
    )


def _line_id(item_id: str) -> str:
    return "il_" + item_id.removeprefix("ii_")


def _item_id(line_id: str) -> str:
    return "ii_" + line_id.removeprefix("il_")


def _line(account: Account, invoice: Thing, item: Thing) -> Thing:
    line = account.document.blank_of("line_item")
    line.update({name: item[name] for name in COPIED})
    line.update(
        id=_line_id(item["id"]),
        object="line_item",
        invoice=invoice["id"],
        subtotal=item["amount"],
        taxes=_taxes(account, invoice, item),
        discounts=[],
        parent={
            "type": "invoice_item_details",
            "subscription_item_details": None,
            "invoice_item_details": {
                "invoice_item": item["id"],
                "proration": False,
                "proration_details": None,
                "subscription": None,
            },
        },
    )
    return line


def _taxes(account: Account, invoice: Thing, item: Thing) -> list[Thing]:
    """The taxes of a line: by rate, or as the caller worked them out."""
    taxes = []
    for rate in item["tax_rates"] or invoice["default_tax_rates"]:
        share = Decimal(str(rate["percentage"])) / 100
        amount = Decimal(item["amount"])
        tax = half_up(amount - amount / (1 + share) if rate["inclusive"] else amount * share)
        taxes.append(_tax(tax, item["amount"], rate["id"], inclusive=rate["inclusive"]))
    for given in account.private_of(item)["tax_amounts"]:
        inclusive = given["tax_rate_data"]["inclusive"]
        taxes.append(_tax(given["amount"], given["taxable_amount"], "txr_sbx_given", inclusive=inclusive))
    return taxes


def _tax(amount: int, taxable: int, rate: str, *, inclusive: bool) -> Thing:
    return {
        "amount": amount,
        "tax_behavior": "inclusive" if inclusive else "exclusive",
        "taxable_amount": taxable,
        "taxability_reason": "not_available",
        "type": "tax_rate_details",
        "tax_rate_details": {"tax_rate": rate},
    }


def _summed_taxes(lines: list[Thing]) -> list[Thing]:
    totals: dict[Any, Thing] = {}
    for line in lines:
        for tax in line["taxes"]:
            key = (tax["tax_rate_details"]["tax_rate"], tax["tax_behavior"])
            total = totals.setdefault(key, {**tax, "amount": 0, "taxable_amount": 0})
            total["amount"] += tax["amount"]
            total["taxable_amount"] += tax["taxable_amount"]
    return list(totals.values())
