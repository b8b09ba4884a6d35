"""manage.py verify, and the customer's verifier with an invoice: from the bill down to the seals."""

import json
import subprocess
import sys

import pytest
import time_machine
from django.core.management import CommandError, call_command

from billing.invoicing import close_period
from metering.exporting import EVENTS, MANIFEST, VERIFIER
from metering.sealing import seal_days
from tests import factories
from tests.billing.billing_builders import at, payg, price, subscribed, use
from tests.metering.sealed_world import unguarded
from tests.metering.usage_world import correction, event, fold_all, send

pytestmark = pytest.mark.django_db
NOW = at(2026, 11, 3, 12)


@pytest.fixture
def invoice(globex):
    """October of globex, closed on 2 November; a price that changes within it, and a late event."""
    price("input_tokens", "0.15", valid_until=at(2026, 10, 16))
    price("input_tokens", "0.30", valid_from=at(2026, 10, 16))
    subscription = subscribed(globex, payg(), anchor=at(2026, 10))
    use(globex, at(2026, 10, 3, 7), input_tokens=1000, output_tokens=3)
    use(globex, at(2026, 10, 15, 23, 59), input_tokens=20)
    use(globex, at(2026, 10, 16), "other-model", input_tokens=300, reasoning_tokens=7)
    use(globex, at(2026, 11, 1, 3), input_tokens=5)
    seal_days(now=at(2026, 11, 2, 5))
    closed = close_period(subscription, now=at(2026, 11, 2, 6))
    use(globex, at(2026, 11, 2, 7), input_tokens=50)
    seal_days(now=NOW)
    return closed


def verify(*options, code=0):
    with time_machine.travel(NOW, tick=False):
        if not code:
            call_command("verify", "--organisation", "globex", "--json", *options)
            return
        with pytest.raises(SystemExit) as ended:
            call_command("verify", "--organisation", "globex", "--json", *options)
        assert ended.value.code == code


@pytest.fixture
def said(capsys):
    return lambda: json.loads(capsys.readouterr().out)


def tamper(statement, *params):
    with unguarded() as cursor:
        cursor.execute(statement, params)
        assert cursor.rowcount


def test_everything_agrees(invoice, said):
    verify()
    result = said()
    assert result["differences"] == 0
    assert (result["seals"], result["events_checked"], result["invoices_checked"]) == (5, 5, 1)


def test_a_named_invoice_alone(invoice, said):
    verify("--invoice", invoice.number)
    assert said()["invoices_checked"] == 1


def test_an_unknown_invoice_is_an_error(invoice):
    with pytest.raises(CommandError, match="has no invoice KT-1"):
        call_command("verify", "--organisation", "globex", "--invoice", "KT-1")


def test_a_changed_event_shows_in_seal_totals_and_invoice(invoice, said):
    tamper("UPDATE event SET data = jsonb_set(data, '{input_tokens}', '1001') WHERE data ->> 'input_tokens' = '1000'")
    verify(code=1)
    result = said()
    assert [(one["code"], one["day"]) for one in result["seal_findings"]] == [
        ("root_wrong", "2026-10-03"),
        ("event_changed", "2026-10-03"),
    ]
    assert result["seal_findings"][1]["event_id"].startswith("event-")
    assert {one["expected_value"] for one in result["total_findings"]} == {"1001"}
    [finding] = result["invoice_findings"]
    assert (finding["invoice"], finding["meter"], finding["model"]) == (invoice.number, "input_tokens", "gpt-4o")
    assert (finding["billed"], finding["metered"]) == ("1020", "1021")


def test_events_that_came_after_the_cutoff_are_not_held_against_the_invoice(invoice, globex, said):
    use_late(globex)
    verify()
    assert said()["differences"] == 0


def test_usage_that_the_invoice_leaves_out_is_found(invoice, said):
    tamper("UPDATE ingest_batch SET received_at = '2026-11-01' WHERE received_at = '2026-11-02 07:00+00'")
    tamper("UPDATE event SET time = '2026-10-20' WHERE time = '2026-11-02 07:00+00'")
    verify(code=1)
    billed = {(one["meter"], one["billed"], one["metered"]) for one in said()["invoice_findings"]}
    assert billed == {("input_tokens", None, "50"), ("requests", None, "1")}


def test_the_seal_on_an_invoice_tells_that_later_ones_were_written_anew(invoice, said):
    """Somebody with the database's password deletes a day with everything that speaks of it."""
    noted = invoice.evidence["seal"]
    assert noted["day"] == "2026-11-01"
    with unguarded() as cursor:
        for day in ("2026-11-01", "2026-11-02"):
            cursor.execute(
                "DELETE FROM metering_sealtile t USING metering_seal s WHERE t.seal_id = s.id AND day = %s", [day]
            )
            cursor.execute("DELETE FROM metering_seal WHERE day = %s", [day])
        cursor.execute("DELETE FROM event WHERE time >= '2026-11-01'")
        cursor.execute("DELETE FROM ingest_batch WHERE received_at >= '2026-11-01'")
    verify(code=1)
    [finding] = said()["seal_findings"]
    assert finding["code"] == "head_missing"
    assert noted["digest"] in finding["detail"]


def use_late(organisation):
    """An event of October that is received on 2 November, after the invoice was made."""
    send(event(organisation.public_id, at(2026, 10, 20), input_tokens=9), now=at(2026, 11, 3, 1))
    fold_all(NOW)


# --- The customer's side ----------------------------------------------------------------------------------------------


@pytest.fixture
def folder(invoice, api, globex, tmp_path):
    """The export and the invoice, as the API answers it."""
    export(tmp_path)
    with time_machine.travel(NOW, tick=False):
        client = api(factories.access_token(globex).secret)
        answer = client.get(f"/v1/invoices/{invoice.number}")
    (tmp_path / "invoice.json").write_bytes(answer.content)
    return tmp_path


def export(folder, *options):
    with time_machine.travel(NOW, tick=False):
        call_command("export_events", "--organisation", "globex", "--output", str(folder), "--json", *options)


def run_verifier(folder, code=0):
    command = [sys.executable, "-I", VERIFIER, EVENTS, MANIFEST, "invoice.json", "--json"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, env={})
    assert done.returncode == code, done.stdout + done.stderr
    return json.loads(done.stdout)


def test_the_verifier_finds_the_invoice_to_rest_on_the_events(folder):
    result = run_verifier(folder)
    assert result["findings"] == []
    assert result["checked"]["readings"] >= 5


def test_one_digit_of_the_invoice_changed_is_found(folder):
    path = folder / "invoice.json"
    text = path.read_text()
    invoice = json.loads(text)
    reading = next(one for one in invoice["evidence"]["periods"][0]["readings"] if one["quantity"] == "1020")
    reading["quantity"] = "1030"
    path.write_text(json.dumps(invoice))
    [finding] = run_verifier(folder, code=1)["findings"]
    assert "input_tokens gpt-4o" in finding
    assert "the invoice rests on 1030, the events say 1020." in finding


def test_the_verifier_looks_for_the_seal_on_the_invoice(folder):
    path = folder / "invoice.json"
    invoice = json.loads(path.read_text())
    invoice["evidence"]["seal"]["digest"] = "0" * 64
    path.write_text(json.dumps(invoice))
    [finding] = run_verifier(folder, code=1)["findings"]
    assert "the chain was cut off or written anew" in finding


def test_an_invoice_that_says_nothing_of_a_model_is_found(folder):
    path = folder / "invoice.json"
    invoice = json.loads(path.read_text())
    period = invoice["evidence"]["periods"][0]
    period["readings"] = [one for one in period["readings"] if one["model"] != "other-model"]
    path.write_text(json.dumps(invoice))
    findings = run_verifier(folder, code=1)["findings"]
    assert "input_tokens other-model: the events say 300, the invoice nothing." in findings


def test_an_export_that_is_too_short_for_the_invoice_says_so(folder):
    export(folder, "--to", "2026-10-31")
    [finding] = run_verifier(folder, code=1)["findings"]
    assert finding == "The export ends with 2026-10-31; this invoice needs the events up to 2026-11-02."
    export(folder, "--from", "2026-10-10")
    [finding] = run_verifier(folder, code=1)["findings"]
    assert finding.startswith("The export begins with 2026-10-10; this invoice needs the events from 2026-09-30 on.")


def test_corrections_are_part_of_what_the_events_say(globex, api, tmp_path, said):
    """Voids and amendments on the day itself and later; one after the cutoff is the next invoice's."""
    price("input_tokens", "0.15")
    subscription = subscribed(globex, payg(), anchor=at(2026, 10))

    def receive(now, *drafts):
        send(*drafts, now=now)
        fold_all(now)

    def called(name, when, tokens):
        return event(globex.public_id, when, event_id=name, model="gpt-4o", input_tokens=tokens)

    def changed(of, when, name, tokens=None):
        instead = None if tokens is None else {"model": "gpt-4o-mini", "input_tokens": tokens}
        return correction(globex.public_id, of, when, event_id=name, data=instead)

    first, third = at(2026, 10, 3, 7), at(2026, 10, 5, 7)
    receive(first, *[called(f"call-{n}", first, 100) for n in range(6)])
    receive(first, changed("call-0", first, "void-0"), changed("call-1", first, "amend-1", 30))
    receive(third, changed("call-2", third, "void-2"), changed("amend-1", third, "amend-again", 7))
    receive(third, called("call-9", third, 1), changed("call-3", third, "amend-3", 50))
    receive(third, changed("amend-3", third, "void-3"))
    closed = close_period(subscription, now=at(2026, 11, 2, 6))
    receive(at(2026, 11, 2, 7), changed("call-4", at(2026, 11, 2, 7), "void-4"))
    seal_days(now=NOW)

    readings = {(one["meter"], one["model"]): one["quantity"] for one in closed.evidence["periods"][0]["readings"]}
    assert readings["input_tokens", "gpt-4o"] == "201"
    assert readings["input_tokens", "gpt-4o-mini"] == "7"
    verify()
    assert said()["differences"] == 0
    export(tmp_path)
    with time_machine.travel(NOW, tick=False):
        answer = api(factories.access_token(globex).secret).get(f"/v1/invoices/{closed.number}")
    (tmp_path / "invoice.json").write_bytes(answer.content)
    assert run_verifier(tmp_path)["findings"] == []
    tampered = json.loads(answer.content)
    next(one for one in tampered["evidence"]["periods"][0]["readings"] if one["quantity"] == "201")["quantity"] = "301"
    (tmp_path / "invoice.json").write_text(json.dumps(tampered))
    [finding] = run_verifier(tmp_path, code=1)["findings"]
    assert "the invoice rests on 301, the events say 201." in finding
