"""What Stripe does by itself as time passes: finalising, charging, trying again, calling invoices overdue."""

from contextlib import suppress

from billing.sandbox.account import DAY, Account
from billing.sandbox.document import Thing
from billing.sandbox.errors import StripeError
from billing.sandbox.rules.checkout import expire
from billing.sandbox.rules.invoices import finalize
from billing.sandbox.rules.payments import pay

# A draft that advances by itself is finalised this long after it was made.
SECONDS_AS_DRAFT = 3600


def advance_clock(account: Account, seconds: int) -> None:
    """Move the account's clock and do what has become due."""
    with account.lock:
        account.shift += seconds
        do_what_is_due(account)


def do_what_is_due(account: Account) -> None:
    """Bring an account up to its own clock. Safe at any time, any number of times."""
    with account.lock:
        now = account.now()
        for invoice in account.all("invoice", status="draft", auto_advance=True):
            _finalize_by_itself(account, invoice, now)
        for invoice in account.all("invoice", status="open"):
            _charge_by_itself(account, invoice, now)
            _call_overdue(account, invoice, now)
        for session in account.all("checkout.session", status="open"):
            if session["expires_at"] <= now:
                expire(account, session, None)
        for key in [key for key, kept in account.keys.items() if now - kept["at"] >= DAY and "status" in kept]:
            del account.keys[key]
        account.commit()


def _finalize_by_itself(account: Account, invoice: Thing, now: int) -> None:
    if invoice["last_finalization_error"] is None and now - invoice["created"] >= SECONDS_AS_DRAFT:
        with suppress(StripeError):  # an event has told of it
            finalize(account, invoice, None)


def _charge_by_itself(account: Account, invoice: Thing, now: int) -> None:
    if invoice["auto_advance"] and _should_charge(invoice, now):
        with suppress(StripeError):  # an event has told of it
            pay(account, invoice, {}, None)


def _should_charge(invoice: Thing, now: int) -> bool:
    if invoice["collection_method"] != "charge_automatically":
        return False
    again_at = invoice["next_payment_attempt"]
    return not invoice["attempted"] or (again_at is not None and again_at <= now)


def _call_overdue(account: Account, invoice: Thing, now: int) -> None:
    if invoice["status"] != "open" or not invoice["due_date"] or invoice["due_date"] >= now:
        return
    private = account.private_of(invoice)
    if not private.get("is_overdue"):
        private["is_overdue"] = True
        account.event("invoice.overdue", invoice)
