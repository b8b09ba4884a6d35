"""With a state file the sandbox knows, after any kind of end, everything it ever answered."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import stripe

from billing.sandbox import Options, Sandbox
from tests.billing.sandbox.sdk import client_of
from tests.billing.sandbox.test_pages import browse
from tests.billing.sandbox.test_webhooks import SECRET, Receiver, receiver

__all__ = ["receiver"]
ROOT = Path(__file__).resolve().parents[3]


def objects_of(sandbox: Sandbox) -> dict[str, dict]:
    return {thing["id"]: thing for thing in sandbox.get_control("objects")}


def push_one(api, number: str):
    """An invoice as the product pushes it."""
    customer = api.customers.create({"name": "Acme"}, {"idempotency_key": f"{number}:customer"})
    terms = {"collection_method": "send_invoice", "days_until_due": 30}
    draft = api.invoices.create({"customer": customer.id, "number": number, **terms})
    api.invoices.add_lines(draft.id, {"lines": [{"amount": 100}] * 12})
    api.invoices.finalize_invoice(draft.id)
    return api.invoices.send_invoice(draft.id)


def test_a_restart_keeps_objects_keys_clock_and_lines_on_another_port(document, tmp_path):
    state = tmp_path / "state.json"
    with Sandbox(document=document, state=state) as first:
        invoice = push_one(client_of(first), "KT-1")
        api = client_of(first)
        draft = api.invoices.create({"customer": invoice.customer})
        draft = api.invoices.add_lines(draft.id, {"lines": [{"amount": 100}, {"amount": 200}]})
        api.invoices.remove_lines(draft.id, {"lines": [{"id": draft.lines.data[0].id, "behavior": "delete"}]})
        api.invoices.delete(api.invoices.create({"customer": invoice.customer}).id)
        first.post_control("clock", advance=5000)
        before = objects_of(first)
    with Sandbox(document=document, state=state) as second:
        api = client_of(second)
        after = objects_of(second)
        assert json.dumps(after) == json.dumps(before).replace(first.url, second.url)
        assert second.account.shift == 5000
        replayed = api.customers.create({"name": "Acme"}, {"idempotency_key": "KT-1:customer"})
        assert replayed.id == invoice.customer
        assert len(list(api.invoices.line_items.list(invoice.id, {"limit": 100}))) == 12
        assert browse(api.invoices.retrieve(invoice.id).hosted_invoice_url, card="pm_card_visa")[0] == 303
        assert api.invoices.retrieve(invoice.id).status == "paid"


def test_a_line_torn_by_a_kill_is_dropped(document, tmp_path):
    state = tmp_path / "state.json"
    with Sandbox(document=document, state=state) as first:
        push_one(client_of(first), "KT-1")
        before = objects_of(first)
    with state.open("ab") as file:
        file.write(b'{"shift": 99, "objects": {"in_torn": {"id"')
    with Sandbox(document=document, state=state) as second:
        assert set(objects_of(second)) == set(before)
        assert second.account.shift == 0


def test_a_reset_forgets_everything_for_good(document, tmp_path):
    state = tmp_path / "state.json"
    for _ in range(2):
        with Sandbox(document=document, state=state) as sandbox:
            assert objects_of(sandbox) == {}
            push_one(client_of(sandbox), "KT-1")
            sandbox.post_control("reset")


def test_events_that_were_not_delivered_are_delivered_after_a_restart(document, tmp_path, receiver: Receiver):
    state = tmp_path / "state.json"
    receiver.answers = [503]
    quick, webhook = Options(waits=()), (receiver.url, SECRET)
    with Sandbox(document=document, state=state, webhook=webhook, options=quick) as first:
        client_of(first).customers.create({"name": "Acme"})
        (missed,) = receiver.wait_for(1)
        assert client_of(first).events.retrieve(missed.id).pending_webhooks == 1
    with Sandbox(document=document, state=state, webhook=webhook, options=quick) as second:
        assert [event.id for event in receiver.wait_for(2)] == [missed.id] * 2
        api, deadline = client_of(second), time.monotonic() + 5
        while api.events.retrieve(missed.id).pending_webhooks and time.monotonic() < deadline:
            time.sleep(0.01)
        assert api.events.retrieve(missed.id).pending_webhooks == 0


def start_command(folder: Path) -> tuple[subprocess.Popen[bytes], str]:
    """The management command as the demo runs it; returns once it listens."""
    port_file = folder / "port"
    port_file.unlink(missing_ok=True)
    cache = Path(os.environ["KILOTOKEN_DATA"]) / "stripe-sandbox"
    files = ["--port-file", str(port_file), "--state", str(folder / "state.json"), "--cache", str(cache)]
    command = [sys.executable, "manage.py", "stripe_sandbox", "--port", "0", *files]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 15
    while not port_file.exists():
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return process, f"http://127.0.0.1:{port_file.read_text().strip()}"


def test_the_command_survives_a_kill_and_stops_cleanly(document, tmp_path):
    process, url = start_command(tmp_path)
    bases = {"api": url}
    api = stripe.StripeClient("sk_test_x", base_addresses=bases).v1
    invoice = push_one(api, "KT-1")
    process.kill()
    process.wait()
    process, url = start_command(tmp_path)
    api = stripe.StripeClient("sk_test_x", base_addresses={"api": url}).v1
    assert api.invoices.retrieve(invoice.id).status == "open"
    process.send_signal(signal.SIGTERM)
    assert process.wait(5) == 0
