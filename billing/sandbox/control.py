"""The control endpoints of the sandbox: what a test or a person does from outside Stripe. See the package."""

import re
from collections.abc import Callable
from typing import Any

from billing.sandbox.account import Account, Fault
from billing.sandbox.document import Thing
from billing.sandbox.passing_time import advance_clock
from billing.sandbox.rules.checkout import begin_bank_debit, end_bank_debit
from billing.sandbox.rules.payments import pay
from billing.sandbox.webhooks import Endpoint

OBJECT_ID = re.compile(r"/[a-z_]+_sbx\w+")


class NoSuchControl(Exception):
    """There is no control of this name."""


def read_control(account: Account, name: str, query: dict[str, str]) -> Any:
    """The answer to GET /_control/<name>."""
    with account.lock:
        if name == "journal":
            return list(account.journal)
        if name == "objects":
            wanted = query.get("type")
            return [thing for thing in account.objects.values() if wanted in (None, thing["object"])]
        if name == "summary":
            return _summary(account)
    raise NoSuchControl(name)


def post_control(account: Account, name: str, given: Thing) -> Thing:
    """Do what POST /_control/<name> asks for."""
    if name not in CONTROLS:
        raise NoSuchControl(name)
    CONTROLS[name](account, given)
    return {"ok": True, "now": account.now()}


def _summary(account: Account) -> Thing:
    calls = [note for note in account.journal if "call" in note]
    return {
        "document": account.document.version,
        "versions_sent": sorted({note["version"] for note in calls}),
        "calls": len(calls),
        "replayed": sum(note["replayed"] for note in calls),
        "endpoints_used": sorted({OBJECT_ID.sub("/{id}", note["call"]) for note in calls}),
        "violations": [{"call": note["call"], "problems": note["problems"]} for note in calls if note["problems"]],
        "own_faults": [{"call": note["call"], "faults": note["own_faults"]} for note in calls if note["own_faults"]],
        "generic": sorted({note["call"] for note in calls if note.get("how") == "generic"}),
        "objects": {kind: len(account.all(kind)) for kind in account.kinds()},
    }


def _add_fault(account: Account, given: Thing) -> None:
    account.faults.append(Fault(**{**given, "kind": str(given["kind"])}))


def _move_clock(account: Account, given: Thing) -> None:
    advance_clock(account, given["advance"])


def _add_endpoint(account: Account, given: Thing) -> None:
    account.listen(Endpoint(**{**given, "events": tuple(given.get("events", ("*",)))}))


def _deliver(account: Account, given: Thing) -> None:
    repeat, together = given.get("repeat", 1), given.get("together", False)
    account.deliver(given.get("order", ()), repeat=repeat, together=together)


def _pay_invoice(account: Account, given: Thing) -> None:
    with account.lock:
        invoice = account.find(given["invoice"], "invoice", "invoice")
        try:
            pay(account, invoice, {"payment_method": given.get("payment_method", "pm_card_visa")}, None)
        finally:
            account.commit()


def _bank_debit(account: Account, given: Thing) -> None:
    """Pay a Checkout page by bank debit; with `succeeds`, what came of one that was begun."""
    with account.lock:
        session = account.find(given["session"], "checkout.session", "session")
        if "succeeds" in given:
            end_bank_debit(account, session, succeeds=given["succeeds"])
        else:
            begin_bank_debit(account, session)
        account.commit()


def _reset(account: Account, given: Thing) -> None:
    account.reset()


CONTROLS: dict[str, Callable[[Account, Thing], None]] = {
    "faults": _add_fault,
    "clock": _move_clock,
    "webhooks": _add_endpoint,
    "deliver": _deliver,
    "pay": _pay_invoice,
    "bank-debit": _bank_debit,
    "reset": _reset,
}
