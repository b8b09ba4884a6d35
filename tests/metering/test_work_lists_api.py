"""/v1/rejected-events and /v1/unmatched-events: work lists for whoever keeps a meter fed."""

import json
from datetime import timedelta
from decimal import Decimal

import pytest
import time_machine
from django.utils import timezone

from accounts.models import AuditEntry, Scope
from metering import catalogue
from metering.models import Event, Meter, RejectedEvent
from tests import factories
from tests.metering.conftest import NOW, take

pytestmark = pytest.mark.django_db
LIST = "/v1/rejected-events"


@pytest.fixture(autouse=True)
def _now():
    with time_machine.travel(NOW, tick=False):
        yield


@pytest.fixture
def refused(draft, globex):
    """Three of acme's for one reason, one conflict of acme's, one of globex', one that is nobody's."""
    take(*[draft(f"x-{n}", input_tokens="many", model="m1") for n in range(3)])
    take(draft("twice", input_tokens=1))
    take(draft("twice", input_tokens=2))
    take(draft("theirs", subject=globex.public_id, input_tokens="many"))
    take(draft("nobody", subject="key_nobody"))


@pytest.fixture
def operator_api(api, service_token):
    return api(service_token.secret)


@pytest.fixture
def own_api(api, acme_access_token):
    return api(acme_access_token.secret)


def names(answer):
    assert answer.status_code == 200, answer.content
    return [item["event_id"] for item in answer.json()["items"]]


def row(event_id):
    return RejectedEvent.objects.filter(event_id=event_id).latest("pk")


def test_an_operator_sees_all_and_an_organisation_its_own(refused, operator_api, own_api):
    assert set(names(operator_api.get(LIST))) == {"x-0", "x-1", "x-2", "twice", "theirs", "nobody"}
    assert names(operator_api.get(LIST, {"organisation": "globex"})) == ["theirs"]
    assert set(names(own_api.get(LIST))) == {"x-0", "x-1", "x-2", "twice"}
    assert own_api.get(LIST, {"organisation": "globex"}).status_code == 404


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ({"reason": "conflict"}, ["twice"]),
        ({"id": "x-1"}, ["x-1"]),
        ({"source": "elsewhere"}, []),
        ({"state": "dismissed"}, []),
        ({"since": "2026-11-15T12:00:01Z"}, []),
        ({"until": "2026-11-15T12:00:00Z"}, []),
        ({"since": "2026-11-15T12:00:00Z", "reason": "conflict"}, ["twice"]),
    ],
)
def test_the_list_can_be_filtered(refused, own_api, query, found):
    assert names(own_api.get(LIST, query)) == found


@pytest.mark.parametrize("query", [{"reason": "bad mood"}, {"since": "never"}, {"cursor": "rej_none"}, {"limit": "0"}])
def test_filters_that_mean_nothing_are_refused(refused, own_api, query):
    assert own_api.get(LIST, query).status_code == 400


def test_pages_follow_each_other(refused, own_api):
    first = own_api.get(LIST, {"limit": 3}).json()
    assert first["next_cursor"] == first["items"][-1]["id"]
    second = own_api.get(LIST, {"limit": 3, "cursor": first["next_cursor"]}).json()
    assert second["next_cursor"] is None
    assert len({item["id"] for item in first["items"] + second["items"]}) == 4


def test_one_is_shown_with_its_body_and_without_secrets(draft, own_api, acme_key):
    take(draft("1", input_tokens="x", note=f"the key is {acme_key.secret}"))
    shown = own_api.get(f"{LIST}/{row('1').public_id}").json()
    assert json.loads(shown["body"])["data"]["input_tokens"] == "x"
    assert acme_key.secret not in shown["body"]
    assert (shown["reason"], shown["state"], shown["seen_count"]) == ("invalid_value", "open", 1)


def test_another_organisations_do_not_exist(refused, own_api):
    for name in ("theirs", "nobody"):
        assert own_api.get(f"{LIST}/{row(name).public_id}").status_code == 404
    assert own_api.get(f"{LIST}/{row('twice').digest}").status_code == 404


# --- Replaying --------------------------------------------------------------------------------------------------------


def test_one_is_repaired_and_replayed_once(refused, operator_api, service_token):
    address = f"{LIST}/{row('x-0').public_id}/replay"
    as_it_is = operator_api.post(address, {}).json()
    assert (as_it_is["verdict"]["verdict"], as_it_is["open"]) == ("rejected", row("x-0").public_id)
    done = operator_api.post(address, {"repairs": [{"field": "data.input_tokens", "to": 5}]}).json()
    assert (done["verdict"]["verdict"], done["open"], done["event"]["state"]) == ("accepted", None, "replayed")
    assert "input_tokens" in done["verdict"]["meters"]
    again = operator_api.post(address, {"repairs": [{"field": "data.input_tokens", "to": 6}]}).json()
    assert (again["verdict"], again["event"]) == (None, done["event"])
    assert Event.objects.filter(event_id="x-0").values_list("data__input_tokens", flat=True).get() == 5
    entry = AuditEntry.objects.get(action="rejected_event.replayed")
    assert service_token.token.public_id in entry.actor_label
    assert entry.details["edited"] is True


def test_a_whole_event_may_be_sent_in_its_place_with_every_digit(refused, operator_api, own_api):
    body = json.loads(row("x-1").body)
    exact = "12345678901234567890.123456789012345678"
    text = json.dumps({"event": body | {"data": {"model": "m-2"}}})
    text = text.replace('"m-2"', f'"m-2", "input_tokens": {exact}')
    address = f"{LIST}/{row('x-1').public_id}/replay"
    answer = operator_api.post(address, text, content_type="application/json")
    assert answer.json()["verdict"]["verdict"] == "accepted"
    kept = json.loads(own_api.get("/v1/events", {"source": "gateway", "id": "x-1"}).content, parse_float=Decimal)
    assert kept["acceptance"]["data"]["input_tokens"] == Decimal(exact)


@pytest.mark.parametrize(
    "body",
    [
        {"event": [1]},
        {"event": {}, "repairs": [{"field": "a", "to": 1}]},
        {"repairs": [{"field": "a..b", "to": 1}]},
        {"repairs": [{"to": 1}]},
        {"repairs": "all"},
        {"event": {"data": "x" * 70_000}},
    ],
)
def test_repairs_that_make_no_sense_are_refused(refused, operator_api, body):
    assert operator_api.post(f"{LIST}/{row('x-0').public_id}/replay", body).status_code == 400
    assert row("x-0").state == "open"


def test_one_is_dismissed_with_a_reason(refused, operator_api):
    address = f"{LIST}/{row('x-0').public_id}/dismissal"
    assert operator_api.post(address, {}).status_code == 400
    for _ in range(2):
        shown = operator_api.post(address, {"reason": "A test"}).json()
        assert (shown["state"], shown["settlement"]) == ("dismissed", "A test")
    assert operator_api.post(f"{LIST}/{row('x-0').public_id}/replay", {}).json()["code"] == "already_settled"
    assert AuditEntry.objects.filter(action="rejected_event.dismissed").count() == 1


def test_many_are_counted_first_then_repaired_and_replayed(refused, operator_api):
    body = {
        "filter": {"organisation": "acme", "reason": "invalid_value"},
        "repairs": [{"field": "data.input_tokens", "from": "many", "to": 7}, {"field": "data.model", "to": "m-1"}],
    }
    shown = operator_api.post(f"{LIST}/replay", body | {"dry_run": True}).json()
    assert (shown["matching"], shown["would_change"], len(shown["examples"])) == (3, 3, 3)
    assert json.loads(shown["examples"][0]["after"])["data"] == {"model": "m-1", "input_tokens": 7}
    assert RejectedEvent.objects.filter(state="open").count() == 6
    done = operator_api.post(f"{LIST}/replay", body).json()
    assert (done["accepted"], done["refused"], done["next"]) == (3, 0, None)
    assert {event.data["input_tokens"] for event in Event.objects.filter(event_id__startswith="x-")} == {7}
    assert operator_api.post(f"{LIST}/replay", body).json()["matching"] == 0


def test_many_go_on_where_the_last_request_stopped(refused, operator_api, monkeypatch):
    monkeypatch.setattr("metering.api.work_lists.MOST_AT_ONCE", 4)
    first = operator_api.post(f"{LIST}/replay", {"filter": {}}).json()
    assert (first["matching"], first["refused"]) == (6, 4)
    second = operator_api.post(f"{LIST}/replay", {"filter": {}, "after": first["next"]}).json()
    assert (second["matching"], second["refused"], second["next"]) == (2, 2, None)


def test_many_are_dismissed(refused, operator_api):
    body = {"filter": {"source": "gateway", "reason": "invalid_value"}, "reason": "Load test"}
    assert operator_api.post(f"{LIST}/dismissal", body | {"dry_run": True}).json() == {"dry_run": True, "matching": 4}
    assert operator_api.post(f"{LIST}/dismissal", body).json()["dismissed"] == 4
    assert RejectedEvent.objects.filter(state="dismissed", settlement="Load test").count() == 4
    assert operator_api.post(f"{LIST}/dismissal", {"reason": "No filter"}).status_code == 400
    assert (
        operator_api.post(f"{LIST}/dismissal", {"filter": {"organisation": "none"}, "reason": "x"}).status_code == 404
    )


def test_only_service_tokens_that_may_send_change_anything(refused, own_api, api):
    address = f"{LIST}/{row('x-0').public_id}"
    reader = api(factories.service_token(scopes=[Scope.USAGE_READ]).secret)
    for client in (own_api, reader):
        for path, body in (
            (f"{address}/replay", {}),
            (f"{address}/dismissal", {"reason": "x"}),
            (f"{LIST}/replay", {"filter": {}}),
            (f"{LIST}/dismissal", {"filter": {}, "reason": "x"}),
        ):
            assert client.post(path, body).status_code == 403
    assert reader.get(LIST).status_code == 200


# --- Counts -----------------------------------------------------------------------------------------------------------


def test_refusals_are_counted_by_reason_and_day(refused, own_api, operator_api):
    counts = own_api.get(f"{LIST}/counts", {"days": 2}).json()
    assert counts["days"] == ["2026-11-14", "2026-11-15"]
    by_reason = {one["reason"]: (one["counts"], one["still_open"]) for one in counts["reasons"]}
    assert by_reason == {"invalid_value": ([0, 3], 3), "conflict": ([0, 1], 1)}
    assert operator_api.get(f"{LIST}/counts", {"days": 91}).status_code == 400


def test_types_that_no_meter_reads_are_counted_by_day(draft, globex, own_api, operator_api):
    yesterday = NOW - timedelta(days=1)
    take(draft("a", type="gpu.hours", time=yesterday), now=yesterday)
    take(draft("b", type="gpu.hours"), draft("c", type="gpu.hours"), draft("d"))
    take(draft("e", type="gpu.hours", subject=globex.public_id))
    found = own_api.get("/v1/unmatched-events", {"days": 3}).json()
    [one] = found["items"]
    assert (one["type"], one["count"], one["counts"]) == ("gpu.hours", 3, [0, 1, 2])
    assert one["example"]["source"] == "gateway"
    assert len(operator_api.get("/v1/unmatched-events").json()["items"]) == 2
    assert timezone.now() == NOW


def test_events_in_which_their_meters_find_nothing_are_told_apart(draft, own_api):
    Meter.objects.create(key="gpu_hours", name="GPU hours", event_type="gpu.hours", value_field="hours", unit="h")
    catalogue.forget()
    take(draft("a", type="gpu.hours", data={"hours": 1}), draft("b", type="gpu.hours", data={"minutes": 5}))
    take(draft("c", type="gpu.nights", data={}), draft("d", type="gpu.hours", data={"hours": None}))
    found = own_api.get("/v1/unmatched-events").json()["items"]
    assert [(one["type"], one["count"], one["is_read"]) for one in found] == [
        ("gpu.hours", 2, True),
        ("gpu.nights", 1, False),
    ]
