"""One API request from arrival to answer: authentication, validation, idempotency key, rule, check of the answer.

Idempotency as Stripe documents it: a result, also a refusal, is remembered under its key for 24 hours once the endpoint
began its work; a request that fails validation is not; other parameters or a request in progress are refused.
"""

import base64
import binascii
import copy
import json
import re
import secrets
import time
from typing import Any

from billing.sandbox.account import DAY, Account, Call
from billing.sandbox.answers import faults_in
from billing.sandbox.document import Thing
from billing.sandbox.errors import StripeError
from billing.sandbox.forms import FormReader, Problem, nest
from billing.sandbox.rules import behaviour_of

LONGEST_KEY = 255
TEST_KEY = re.compile(r"(sk|rk)_test_\w+")

type Answer = tuple[int, Thing]


def answer(
    account: Account, call: Call, pairs: list[tuple[str, str]], raw_body: str
) -> tuple[int, Thing, dict[str, str]]:
    """(status, body, headers) for a request. What happened is noted in the account's journal."""
    note: Thing = {
        "call": str(call),
        "key": call.key,
        "version": call.version,
        "params": dict(pairs),
        "problems": [],
        "replayed": False,
        "own_faults": [],
    }
    headers = {"Request-Id": f"req_sbx{secrets.token_hex(7)}"}
    account.journal.append(note)
    try:
        _read_request(account, call, pairs, raw_body, note)
        status, body = _run_once(account, call, note) if _has_key(call, note) else _run(account, call, note)
    except StripeError as error:
        status, body = error.status, error.body
    if note["replayed"]:
        headers["Idempotent-Replayed"] = "true"
    note.update(status=status, how=call.how, id=body.get("id"))
    return status, body, headers


def _read_request(account: Account, call: Call, pairs: list[tuple[str, str]], raw_body: str, note: Thing) -> None:
    """Fill in the call's route and typed parameters, or refuse it."""
    route = account.document.route(call.method, call.path)
    if route is None:
        note["problems"].append(f"no such endpoint: {call}")
        raise StripeError(404, f"Unrecognized request URL ({call.method}: {call.path}).")
    call.template, call.operation, call.arguments = route
    _authenticate(call, note)
    if not call.version:
        note["problems"].append("no Stripe-Version header: the answer's shape depends on the account's default")
    media, schema = account.document.request_schema(route, call.method, call.version)
    if media == "application/json":
        call.params = json.loads(raw_body or "{}")
        problems = [Problem("", "invalid", text) for text in faults_in(account.document, schema, call.params)]
    else:
        reader = FormReader(account.document)
        call.params = reader.read(schema, nest(pairs)) or {}
        problems = reader.problems
    if problems:
        note["problems"] += [f"{problem.code}: {problem.message}" for problem in problems]
        raise StripeError(400, problems[0].message, problems[0].code, problems[0].param)


def _authenticate(call: Call, note: Thing) -> None:
    """Any test key will do, as bearer token or as user name; a live key has no business here."""
    scheme, _, given = call.headers.get("authorization", "").partition(" ")
    if scheme == "Basic":
        try:
            given = base64.b64decode(given).decode().partition(":")[0]
        except (binascii.Error, UnicodeDecodeError):
            given = ""
    if not given:
        note["problems"].append("no API key")
        raise StripeError(401, "You did not provide an API key.")
    if not TEST_KEY.fullmatch(given):
        note["problems"].append("not a test key")
        shown = f"{given[:8]}***{given[-4:]}" if len(given) > 16 else "***"
        raise StripeError(401, f"Invalid API Key provided: {shown}")


def _has_key(call: Call, note: Thing) -> bool:
    if call.method == "POST" and not call.key:
        note["problems"].append("POST without an idempotency key")
    return call.method == "POST" and bool(call.key)


def _run(account: Account, call: Call, note: Thing) -> Answer:
    with account.lock:
        try:
            return _apply_rule(account, call, note)
        finally:
            account.commit()


def _run_once(account: Account, call: Call, note: Thing) -> Answer:
    """Run a request under its idempotency key, or replay what came of it before."""
    key = call.key
    assert key
    if len(key) > LONGEST_KEY:
        message = f"Idempotency keys have at most {LONGEST_KEY} characters."
        raise StripeError(400, message, type="idempotency_error")
    with account.lock:
        known = _remembered(account, key, call, note)
        if known is not None:
            note["replayed"] = True
            return known["status"], copy.deepcopy(known["body"])
        entry: Thing = {"print": _fingerprint(call), "at": account.now()}
        account.keys[key] = entry
    slow = account.fault(call, "slow-request")
    if slow:
        time.sleep(slow.seconds)
    with account.lock:
        try:
            status, body = _apply_rule(account, call, note)
        except StripeError as error:
            status, body = error.status, error.body
        except Exception:
            del account.keys[key]  # a mistake of the sandbox's own is no result to remember
            raise
        entry.update(status=status, body=copy.deepcopy(body))
        account.commit(key)
    return status, body


def _fingerprint(call: Call) -> str:
    return json.dumps([call.method, call.path, call.params], sort_keys=True)


def _remembered(account: Account, key: str, call: Call, note: Thing) -> Thing | None:
    known = account.keys.get(key)
    if known is None or account.now() - known["at"] >= DAY:
        return None
    if known["print"] != _fingerprint(call):
        note["problems"].append("idempotency key used again with other parameters")
        raise StripeError(
            400,
            "Keys for idempotent requests can only be used with the same parameters they were first used with. "
            f"Try using a key other than '{key}' if you meant to execute a different request.",
            type="idempotency_error",
        )
    if "status" not in known:
        raise StripeError(
            409,
            "There is currently another in-progress request using this Idempotent Key.",
            "idempotency_key_in_use",
        )
    return known


def _apply_rule(account: Account, call: Call, note: Thing) -> Answer:
    body = copy.deepcopy(behaviour_of(call)(account, call))
    wanted = call.params.get("expand") or []
    for path in wanted:
        _expand(account, body, path.split("."))
    if body.get("object") == "invoice" and not body.get("deleted"):
        _fit_invoice(account, body, wanted)
    schema = account.document.answer_schema(call.operation)
    note["own_faults"] = list(faults_in(account.document, schema, body))
    return 200, body


def _fit_invoice(account: Account, invoice: Thing, wanted: list[str]) -> None:
    """Two parts of an invoice come only when asked for."""
    if any(path.partition(".")[0] == "payments" for path in wanted):
        payments = account.all("invoice_payment", invoice=invoice["id"])
        invoice["payments"] = account.page(copy.deepcopy(payments), "/v1/invoice_payments")
        for path in wanted:
            _expand(account, invoice, path.split("."))
    if "confirmation_secret" not in wanted:
        invoice.pop("confirmation_secret", None)


def _expand(account: Account, body: Any, names: list[str]) -> None:
    """Put objects in the place of the ids that a path leads to."""
    if isinstance(body, list):
        for part in body:
            _expand(account, part, names)
    elif isinstance(body, dict) and names and names[0] in body:
        value = body[names[0]]
        if isinstance(value, str) and value in account.objects:
            body[names[0]] = value = copy.deepcopy(account.objects[value])
        _expand(account, value, names[1:])
