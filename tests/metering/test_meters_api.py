"""Meters over REST: previewed, defined once however often it is sent, changed for later events, archived."""

from datetime import UTC, datetime, timedelta

import pytest
import time_machine

from accounts.models import AuditEntry, Scope
from metering import catalogue
from metering.models import Meter
from tests import factories
from tests.metering.usage_world import event, send

pytestmark = pytest.mark.django_db

NOW = datetime(2026, 11, 15, 12, 0, tzinfo=UTC)
SOON = "2026-11-15T13:15:00Z"
SECONDS = {
    "key": "seconds",
    "name": "Seconds",
    "event_type": "ai.usage",
    "aggregation": "sum",
    "value_field": "audio.seconds",
    "unit": "seconds",
    "dimensions": ["model", "region"],
    "filters": [{"field": "operation", "operator": "in", "values": ["speech"]}],
}


@pytest.fixture(autouse=True)
def _now():
    catalogue.forget()
    with time_machine.travel(NOW, tick=False):
        yield


@pytest.fixture
def client(api, service_token):
    return api(service_token.secret)


def change(client, key, body):
    return client.patch(f"/v1/meters/{key}", body, content_type="application/json")


def test_a_meter_is_defined_and_read_back(client):
    made = client.post("/v1/meters", SECONDS)
    assert made.status_code == 201
    meter = made.json()
    assert meter["effective_from"] == SOON
    assert meter["is_additive"] is True
    assert {name: meter[name] for name in SECONDS} == SECONDS
    assert client.get("/v1/meters/seconds").json() == meter
    assert meter in client.get("/v1/meters").json()["items"]
    entry = AuditEntry.objects.get(action="meter.defined")
    assert (entry.subject_id, entry.details["value_field"]) == ("seconds", "audio.seconds")


def test_the_same_definition_again_changes_nothing_and_another_is_refused(client):
    client.post("/v1/meters", SECONDS)
    again = client.post("/v1/meters", SECONDS)
    assert again.status_code == 200
    other = client.post("/v1/meters", SECONDS | {"value_field": "seconds"})
    assert (other.status_code, other.json()["code"]) == (409, "meter_exists")
    assert Meter.objects.filter(key="seconds").count() == AuditEntry.objects.filter(action="meter.defined").count() == 1


def test_a_preview_says_what_a_definition_would_read_and_saves_nothing(client, acme_key):
    subject = acme_key.api_key.public_id
    speech = [("speech", 2, "eu"), ("speech", "0.5", "eu"), ("speech", "long", "us"), ("speech", 1, "us")]
    for minute, (operation, seconds, region) in enumerate([*speech, ("chat", 9, "us")]):
        at = NOW - timedelta(minutes=minute)
        send(event(subject, at, operation=operation, audio={"seconds": seconds}, region=region), now=NOW)
    found = client.post("/v1/meters/preview", SECONDS).json()
    assert (found["of_its_type"], found["let_through"], found["readable"]) == (5, 4, 3)
    assert (found["value"], found["series"], found["unreadable"]) == ("3.5", 2, ["long"])
    assert found["groups"][0] == {"labels": {"model": "m-1", "region": "eu"}, "events": 2}
    assert {sample["value"] for sample in found["samples"]} == {"2", "0.5", "1"}
    assert not Meter.objects.filter(key="seconds").exists()


@pytest.mark.parametrize(
    ("aggregation", "value"),
    [
        ("max", "2"),
        ("min", "0.5"),
        ("latest", "2"),
        ("unique_count", "3"),
        ("average", "1.166666666666666667"),
        ("count", "4"),
    ],
)
def test_a_preview_knows_every_aggregation(client, acme_key, aggregation, value):
    for minute, seconds in enumerate([2, "0.5", None, 1]):
        at = NOW - timedelta(minutes=minute)
        draft = event(acme_key.api_key.public_id, at, operation="speech", audio={"seconds": seconds})
        send(draft, now=NOW)
    wanted = SECONDS | {"aggregation": aggregation}
    wanted |= {"value_field": ""} if aggregation == "count" else {}
    assert client.post("/v1/meters/preview", wanted).json()["value"] == value


def test_words_change_at_once(client):
    client.post("/v1/meters", SECONDS)
    changed = change(client, "seconds", {"name": "Audio", "display_scale": "60"}).json()
    assert (changed["name"], changed["display_scale"], changed["revisions"]) == ("Audio", "60", [])
    assert AuditEntry.objects.get(action="meter.reworded").details == {
        "name": ["Seconds", "Audio"],
        "display_scale": ["1.000000", "60.000000"],
    }


def test_a_definition_changes_from_an_instant_on_and_never_before(client):
    by_region = {"dimensions": ["model", "region"]}
    early = change(client, "input_tokens", by_region | {"effective_from": "2026-11-15T13:00:00Z"})
    assert (early.status_code, early.json()["code"]) == (422, "revision_too_early")
    assert "2026-11-15T13:15Z" in early.json()["detail"]
    changed = change(client, "input_tokens", by_region).json()
    assert changed["dimensions"] == ["model", "service_tier"]
    [revision] = changed["revisions"]
    assert (revision["dimensions"], revision["effective_from"]) == (["model", "region"], SOON)
    # The same again is no change; another one follows the first.
    assert len(change(client, "input_tokens", by_region).json()["revisions"]) == 1
    filters = [{"field": "region", "operator": "exists"}]
    latest = change(client, "input_tokens", {"filters": filters}).json()["revisions"][-1]
    assert (latest["dimensions"], latest["filters"]) == (["model", "region"], filters)
    assert latest["effective_from"] == "2026-11-15T13:30:00Z"


def test_what_totals_are_made_of_never_changes(client):
    for name in ("key", "event_type", "aggregation", "value_field", "part_of"):
        refused = change(client, "input_tokens", {name: "other"})
        assert (refused.status_code, refused.json()["code"]) == (422, "invalid_meter")
        assert refused.json()["detail"].startswith(f"{name} cannot be changed")


def test_an_archived_meter_cannot_be_changed_and_archiving_again_changes_nothing(client):
    first = client.post("/v1/meters/requests/archival").json()
    assert first["archived_at"] == "2026-11-15T12:00:00Z"
    assert client.post("/v1/meters/requests/archival").json() == first
    refused = change(client, "requests", {"dimensions": []})
    assert (refused.status_code, refused.json()["code"]) == (409, "meter_archived")
    keys = [meter["key"] for meter in client.get("/v1/meters").json()["items"]]
    assert "requests" not in keys
    assert "requests" in [meter["key"] for meter in client.get("/v1/meters?archived=true").json()["items"]]


@pytest.mark.parametrize(
    "body",
    [
        SECONDS | {"key": "no key"},
        SECONDS | {"aggregation": "median"},
        SECONDS | {"value_field": ""},
        SECONDS | {"filters": [{"field": "a", "operator": "gt", "values": ["many"]}]},
        SECONDS | {"filters": [{"field": "a", "operator": "exists", "values": ["x"]}]},
        SECONDS
        | {"tiers": {"t": {"fields": ["a"], "steps": [{"up_to": "2", "label": "x"}, {"up_to": "1", "label": "y"}]}}},
        SECONDS | {"tiers": []},
        SECONDS | {"dimensions": ["model", "model"]},
        SECONDS | {"effective_from": "2026-11-15T13:20:00Z"},
        SECONDS | {"effective_from": "2026-11-15T12:00:00Z"},
        SECONDS | {"part_of": "nothing"},
        SECONDS | {"display_scale": "0"},
    ],
)
def test_what_cannot_work_is_a_problem_with_a_code(client, body):
    refused = client.post("/v1/meters", body)
    assert refused.status_code in {400, 422}
    assert refused["Content-Type"] == "application/problem+json"
    assert not Meter.objects.filter(key="seconds").exists()


def test_only_a_service_token_with_the_scope_may_change_meters(api, acme_access_token):
    reader = api(factories.service_token(scopes=[Scope.USAGE_READ]).secret)
    assert reader.get("/v1/meters").status_code == 200
    assert reader.post("/v1/meters", SECONDS).status_code == 403
    customer = api(acme_access_token.secret)
    assert customer.get("/v1/meters/requests").status_code == 200
    for path in ("/v1/meters", "/v1/meters/preview", "/v1/meters/requests/archival"):
        assert customer.post(path, SECONDS).status_code == 403
    assert customer.get("/v1/meters/nothing").status_code == 404
