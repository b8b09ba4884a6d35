"""Meters with conditions, paths and revisions, from the verdict to the customer's verifier."""

import json
import subprocess
import sys
from datetime import timedelta
from decimal import Decimal

import pytest

from metering import catalogue
from metering.event_lookup import look_up_event
from metering.exporting import EVENTS, MANIFEST, VERIFIER, plan_export, write_folder
from metering.intake import accept
from metering.models import Meter, MeterRevision, SeriesLimit
from metering.reports import period_values, quantities
from tests.metering.meters_world import KINDS, meter
from tests.metering.sealed_world import at, seal
from tests.metering.usage_world import correction, event, fold_all, send

pytestmark = pytest.mark.django_db

NOW = at(15)
CHAT = [{"field": "call.kind", "operator": "eq", "values": ["chat"]}]


@pytest.fixture
def subject(acme):
    return acme.public_id


def verdict(*drafts):
    catalogue.forget()
    return accept(list(drafts), format="test", service_token_id=None, now=NOW)[0]


def test_a_verdict_names_the_meters_whose_conditions_hold(subject):
    meter("chats", value_field="call.size", filters=CHAT)
    meter("chat_calls", aggregation="count", filters=CHAT)
    assert verdict(event(subject, NOW, call={"kind": "chat", "size": 5})).meters == ("chat_calls", "chats", "requests")
    assert verdict(event(subject, NOW, call={"kind": "chat"})).meters == ("chat_calls", "requests")
    assert verdict(event(subject, NOW, call={"kind": "image", "size": "much"})).meters == ("requests",)


def test_an_unreadable_value_below_a_path_refuses_the_event_where_the_conditions_hold(subject):
    meter("chats", value_field="call.size", filters=CHAT)
    refused = verdict(event(subject, NOW, call={"kind": "chat", "size": "much"}))
    assert (refused.verdict, refused.reason) == ("rejected", "invalid_value")
    assert refused.detail.startswith("data.call.size is 'much'")


def test_a_verdict_goes_by_the_revision_in_force_at_the_events_time(subject):
    one = meter("sizes")
    MeterRevision.objects.create(meter=one, effective_from=at(14), dimensions=[], filters=CHAT)
    assert "sizes" in verdict(event(subject, at(13), size=1)).meters
    assert "sizes" not in verdict(event(subject, at(14), size=1)).meters
    assert "sizes" in verdict(event(subject, at(14), size=1, call={"kind": "chat"})).meters


def test_a_look_up_names_the_series_that_an_event_counts_in(subject, acme):
    tiers = {"big": {"fields": ["size"], "steps": [{"up_to": "10", "label": "no"}, {"label": "yes"}]}}
    one = meter("sizes", dimensions=["model", "call.kind"], tiers=tiers)
    MeterRevision.objects.create(meter=one, effective_from=at(14), dimensions=[], filters=CHAT)
    send(event(subject, at(13), event_id="e-1", size="10.5", call={"kind": "chat"}), now=NOW)
    send(event(subject, at(14), event_id="e-2", size=3, call={"kind": "chat"}), now=NOW)
    feeds = {}
    for event_id in ("e-1", "e-2"):
        facts = look_up_event(acme, source="gateway", event_id=event_id)
        [feeds[event_id]] = [feed for feed in facts.acceptance.feeds if feed.meter == "sizes"]
    assert (feeds["e-1"].model, dict(feeds["e-1"].labels)) == ("m-1", {"call.kind": "chat", "big": "yes"})
    assert (feeds["e-2"].model, dict(feeds["e-2"].labels), feeds["e-2"].value) == ("", {}, 3)


def instant(moment):
    return moment.isoformat().replace("+00:00", "Z")


def invoice(acme, start, end):
    """An invoice as the API answers it, as far as the verifier looks at it."""
    found = [
        *quantities(acme, start=start, end=end, dimensions=("call.kind",)),
        *period_values(acme, start=start, end=end),
    ]
    readings = [
        {
            "meter": one.meter_key,
            "model": one.model,
            "start": instant(one.start),
            "end": instant(one.end),
            "quantity": str(one.value),
        }
        for one in found
    ]
    period = {"start": instant(start), "end": instant(end), "readings": readings}
    return {"evidence": {"cutoff": instant(at(14, 23)), "seal": None, "periods": [period]}}


def test_the_customers_verifier_arrives_at_every_quantity(subject, acme, tmp_path):
    for kind in KINDS:
        fields = {} if kind == "count" else {"value_field": "call.size"}
        one = meter(f"size_{kind}", aggregation=kind, filters=CHAT, dimensions=["model", "call.kind"], **fields)
        MeterRevision.objects.create(meter=one, effective_from=at(12), dimensions=["model"], filters=[])
    meter("models", dimensions=["model"], value_field="call.size")
    limit = {"starts_at": at(12), "ends_at": at(13), "series": 9, "noticed_at": at(12)}
    SeriesLimit.objects.create(organisation=acme, meter=Meter.objects.get(key="models"), **limit)
    for n in range(24):
        call = {"kind": "chat" if n % 3 else "image", "size": [n % 7, str(n % 7), n % 7 + Decimal("0.25")][n % 3]}
        send(
            event(subject, at(11) + n * timedelta(hours=2), event_id=f"o-{n}", model=f"m-{n % 2}", call=call),
            now=at(14),
        )
    send(correction(subject, "o-22", at(14)), now=at(14, 13))
    amended = {"model": "m-1", "call": {"kind": "chat", "size": 99}}
    send(correction(subject, "o-4", at(14), event_id="a-4", data=amended), now=at(14, 13))
    last = {"model": "m-1", "call": {"kind": "chat", "size": "0.5"}}
    send(correction(subject, "o-23", at(14), event_id="a-23", data=last), now=at(14, 13))
    send(correction(subject, "a-23", at(14), event_id="b-23", data=amended), now=at(14, 14))
    fold_all(NOW)
    seal(NOW)
    write_folder(plan_export(acme, now=NOW), tmp_path, NOW)
    bill = invoice(acme, at(11), at(14))
    readings = bill["evidence"]["periods"][0]["readings"]
    assert {one["model"] for one in readings if one["meter"] == "models"} == {"m-0", "m-1", "(other)"}

    def check(code):
        (tmp_path / "invoice.json").write_text(json.dumps(bill))
        command = [sys.executable, "-I", VERIFIER, EVENTS, MANIFEST, "invoice.json", "--json"]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, env={})
        assert done.returncode == code, done.stdout + done.stderr
        return json.loads(done.stdout)["findings"]

    assert check(0) == []
    for reading in bill["evidence"]["periods"][0]["readings"]:
        reading["quantity"] = str(1000)
    named = " ".join(check(1))
    assert all(f"size_{kind}" in named for kind in KINDS)
