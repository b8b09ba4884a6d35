"""The pages that a customer would see at Stripe: a hosted invoice, Checkout, the customer portal.

Plain HTML forms that work without scripts. Every page says that no real money moves. What paying does is decided by
the rules; a page only asks them and shows what came of it.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from django.template import Context, Engine

from billing.sandbox.account import Account
from billing.sandbox.document import Thing
from billing.sandbox.errors import StripeError
from billing.sandbox.rules.checkout import complete_session, refuse_authentication, replace_card
from billing.sandbox.rules.customers import AUTHENTICATION_REQUIRED
from billing.sandbox.rules.payments import finish_authentication, intent_of, pay

HERE = Path(__file__).resolve().parent
STYLESHEET = (HERE / "assets" / "sandbox.css").read_bytes()
ENGINE = Engine(dirs=[str(HERE / "templates")], autoescape=True)

# What the customer can choose on a page -> Stripe's test payment method.
CARDS = [
    ("pm_card_visa", "4242 4242 4242 4242", "Payment succeeds"),
    ("pm_card_chargeDeclined", "4000 0000 0000 0002", "Card is declined"),
    ("pm_card_authenticationRequired", "4000 0027 6000 3184", "Bank asks for confirmation"),
]
ZERO_DECIMAL = ("bif", "clp", "djf", "gnf", "jpy", "kmf", "krw", "mga", "pyg", "rwf", "vnd", "vuv", "xaf", "xof", "xpf")
THREE_DECIMAL = ("bhd", "jod", "kwd", "omr", "tnd")


@dataclass(frozen=True)
class Page:
    """An answer to a browser."""

    body: bytes = b""
    status: int = HTTPStatus.OK
    headers: dict[str, str] = field(default_factory=dict)


def stylesheet() -> Page:
    return Page(STYLESHEET, headers={"Content-Type": "text/css; charset=utf-8", "Cache-Control": "max-age=300"})


def show(account: Account, path: str, form: dict[str, str] | None) -> Page:
    """The page at a path such as "/invoice/in_1"; with a form, what submitting it leads to."""
    kind, _, id = path.strip("/").partition("/")
    with account.lock:
        try:
            return _show_kind(account, kind, id, form)
        finally:
            account.commit()


def _show_kind(account: Account, kind: str, id: str, form: dict[str, str] | None) -> Page:
    thing = account.objects.get(id)
    if kind not in KINDS or thing is None or thing["object"] != KINDS[kind][0] or thing.get("deleted"):
        return _render("missing.html", {"account": account}, status=HTTPStatus.NOT_FOUND)
    _, view, submit = KINDS[kind]
    if form is None:
        return view(account, thing, {})
    try:
        leads_to = submit(account, thing, form)
    except StripeError as error:
        asks = error.body["error"].get("code") == AUTHENTICATION_REQUIRED
        outcome = {"asks": True, "card": form.get("card")} if asks else {"error": str(error)}
        return view(account, thing, outcome)
    return Page(status=HTTPStatus.SEE_OTHER, headers={"Location": leads_to})


def _chosen_card(form: dict[str, str]) -> str:
    card = form.get("card", "")
    if card not in {name for name, _, _ in CARDS}:
        raise StripeError(400, "Please choose a card.")
    return card


# -- The hosted invoice page


def _view_invoice(account: Account, invoice: Thing, outcome: Thing) -> Page:
    currency = invoice["currency"]
    can_pay = invoice["status"] in ("open", "uncollectible") and invoice["amount_remaining"] > 0
    return_url = account.options.return_url
    lines = [
        {
            "description": line["description"] or "Item",
            "amount": _money(line["amount"], currency),
            "period": _days(line["period"]["start"], line["period"]["end"]),
        }
        for line in account.all("line_item", invoice=invoice["id"])
    ]
    context = {
        "account": account,
        "invoice": invoice,
        "lines": lines,
        "taxes": _money(sum(tax["amount"] for tax in invoice["total_taxes"]), currency),
        "total": _money(invoice["total"], currency),
        "due": _money(invoice["amount_remaining"], currency),
        "due_on": _day(invoice["due_date"]) if invoice["due_date"] else "",
        "paid_on": _day(invoice["status_transitions"]["paid_at"]) if invoice["status"] == "paid" else "",
        "can_pay": can_pay,
        "asks": can_pay and intent_of(account, invoice)["status"] == "requires_action",
        "return_url": return_url,
        **outcome,
    }
    return _render("invoice.html", context, leads_to=return_url)


def _submit_invoice(account: Account, invoice: Thing, form: dict[str, str]) -> str:
    if form.get("answer"):
        finish_authentication(account, invoice, confirmed=form["answer"] == "confirm")
    else:
        pay(account, invoice, {"payment_method": _chosen_card(form)}, None)
    return f"/invoice/{invoice['id']}"


# -- Checkout


def _view_checkout(account: Account, session: Thing, outcome: Thing) -> Page:
    lines = [
        {
            "description": (line["price_data"].get("product_data") or {}).get("name", "Item"),
            "amount": _money(line["price_data"].get("unit_amount", 0) * line.get("quantity", 1), session["currency"]),
        }
        for line in account.private_of(session).get("lines", [])
    ]
    context = {
        "account": account,
        "session": session,
        "is_setup": session["mode"] == "setup",
        "is_open": session["status"] == "open",
        "lines": lines,
        "total": "" if session["mode"] == "setup" else _money(session["amount_total"], session["currency"]),
        **outcome,
    }
    return _render("checkout.html", context, leads_to=session["success_url"])


def _submit_checkout(account: Account, session: Thing, form: dict[str, str]) -> str:
    if form.get("answer") == "refuse":
        refuse_authentication(account, session)
    complete_session(account, session, _chosen_card(form), confirmed=form.get("answer") == "confirm")
    address = session["success_url"] or f"/checkout/{session['id']}"
    return address.replace("{CHECKOUT_SESSION_ID}", session["id"])


# -- The customer portal


def _view_portal(account: Account, session: Thing, outcome: Thing) -> Page:
    customer = account.get(session["customer"])
    current = account.objects.get(customer["invoice_settings"]["default_payment_method"] or "")
    context = {"account": account, "session": session, "card": current and current["card"], **outcome}
    return _render("portal.html", context, leads_to=session["return_url"])


def _submit_portal(account: Account, session: Thing, form: dict[str, str]) -> str:
    replace_card(account, session, _chosen_card(form))
    return session["return_url"] or f"/portal/{session['id']}"


type View = Callable[[Account, Thing, Thing], Page]
type Submit = Callable[[Account, Thing, dict[str, str]], str]

KINDS: dict[str, tuple[str, View, Submit]] = {
    "invoice": ("invoice", _view_invoice, _submit_invoice),
    "checkout": ("checkout.session", _view_checkout, _submit_checkout),
    "portal": ("billing_portal.session", _view_portal, _submit_portal),
}


# -- Showing


def _render(template: str, context: dict[str, Any], *, status: int = HTTPStatus.OK, leads_to: str | None = "") -> Page:
    text = ENGINE.get_template(template).render(Context({"cards": CARDS, **context}))
    # A form may lead on to the application, which browsers take for a form action too.
    onward = urlsplit(leads_to or "")
    origins = f"'self' {onward.scheme}://{onward.netloc}" if onward.netloc else "'self'"
    headers = {
        "Content-Type": "text/html; charset=utf-8",
        "Cache-Control": "no-store",
        "Content-Security-Policy": f"default-src 'none'; style-src 'self'; img-src 'self'; form-action {origins}; "
        "base-uri 'none'; frame-ancestors 'none'",
        "Referrer-Policy": "no-referrer",
        "X-Content-Type-Options": "nosniff",
    }
    return Page(text.encode(), status, headers)


def _money(minor: int, currency: str) -> str:
    places = 0 if currency in ZERO_DECIMAL else 3 if currency in THREE_DECIMAL else 2
    whole, part = divmod(abs(minor), 10**places)
    digits = f"{whole:,}" + (f".{part:0{places}d}" if places else "")
    return f"{'-' if minor < 0 else ''}{digits} {currency.upper()}"


def _days(start: int, end: int) -> str:
    return _day(start) if start == end else f"{_day(start)} to {_day(end)}"


def _day(stamp: int) -> str:
    moment = datetime.fromtimestamp(stamp, UTC)
    return f"{moment.day} {moment:%B %Y}"
