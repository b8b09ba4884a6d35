from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
import time_machine

from metering.models import Meter
from tests import factories
from tests.metering.usage_world import event, fold_all, send

pytestmark = pytest.mark.django_db

NOW = datetime(2026, 11, 15, 12, 0, tzinfo=UTC)
BERLIN_DAY = datetime(2026, 11, 14, 23, 0, tzinfo=UTC)


@pytest.fixture(autouse=True)
def _now():
    with time_machine.travel(NOW, tick=False):
        yield


@pytest.fixture
def key(acme_key):
    return acme_key.api_key.public_id


@pytest.fixture
def used(acme, key):
    """Three days of two models."""
    for days in range(3):
        at = BERLIN_DAY - timedelta(days=days) + timedelta(hours=1)
        send(event(key, at, model="m-1", input_tokens=10 + days, output_tokens="0.5"), now=NOW)
        send(event(key, at, model="m-2", input_tokens=100), now=NOW)
    fold_all(NOW)


@pytest.fixture
def read(api, acme_access_token):
    def ask(secret=None, **params):
        return api(secret or acme_access_token.secret).get("/v1/usage", {k.rstrip("_"): v for k, v in params.items()})

    return ask


def test_days_by_meter_and_model_are_exact_text(used, read, acme):
    answer = read(from_="2026-11-13", to="2026-11-16", group_by="meter,model")
    assert answer.status_code == 200, answer.content
    body = answer.json()
    assert (body["organisation"], body["time_zone"], body["granularity"]) == (acme.public_id, "Europe/Berlin", "day")
    assert (body["from"], body["to"]) == ("2026-11-13T00:00:00+01:00", "2026-11-16T00:00:00+01:00")
    assert {
        "start": "2026-11-15T00:00:00+01:00",
        "end": "2026-11-16T00:00:00+01:00",
        "meter": "output_tokens",
        "model": "m-1",
        "value": "0.5",
        "events": 1,
    } in body["items"]
    assert sum(Decimal(one["value"]) for one in body["items"] if one["meter"] == "input_tokens") == 333
    assert body["names"]["meter"]["output_tokens"] == "Output tokens"
    assert (body["next_cursor"], body["pending_events"]) == (None, 0)


def test_pages_hold_whole_buckets_and_add_up(used, read):
    params = {"from_": "2026-11-01", "to": "2026-11-16", "group_by": ["meter", "model"]}
    whole = read(**params).json()["items"]
    for limit in (1, 2, 7):
        items, cursor = [], ""
        while cursor is not None:
            page = read(**params, limit=limit, cursor=cursor).json()
            assert len({one["start"] for one in page["items"]}) <= limit
            items += page["items"]
            cursor = page["next_cursor"]
        assert items == whole


def test_hours_and_quarters_page_through_the_hour_that_comes_twice(read, api, service_token, gus, key):
    lord_howe = factories.organisation("Lord Howe", gus, slug="lord-howe", time_zone="Australia/Lord_Howe")
    first = datetime(2026, 4, 4, 10, 0, tzinfo=UTC)
    events = [
        event(lord_howe.public_id, first + number * timedelta(minutes=15), input_tokens=1) for number in range(40)
    ]
    send(*events, now=NOW)
    fold_all(NOW)
    for granularity in ("hour", "interval"):
        total, cursor, starts = 0, "", []
        while cursor is not None:
            page = read(
                service_token.secret,
                organisation="lord-howe",
                from_="2026-04-04",
                to="2026-04-06",
                granularity=granularity,
                meter="input_tokens",
                limit=3,
                cursor=cursor,
            ).json()
            total += sum(int(one["value"]) for one in page["items"])
            starts += [one["start"] for one in page["items"]]
            cursor = page["next_cursor"]
        assert (total, len(starts)) == (40, len(set(starts)))


def test_without_bounds_it_is_the_month_so_far(used, read):
    body = read(granularity="total").json()
    assert (body["from"], body["to"]) == ("2026-11-01T00:00:00+01:00", "2026-11-15T13:00:00+01:00")
    assert {one["meter"]: one["value"] for one in body["items"]}["input_tokens"] == "333"


def test_bounds_between_quarter_hours_are_widened_and_said(used, read):
    body = read(from_="2026-11-15T00:07:00+01:00", to="2026-11-15T02:07:00+01:00", granularity="total").json()
    assert (body["from"], body["to"]) == ("2026-11-15T00:00:00+01:00", "2026-11-15T02:15:00+01:00")


def test_what_is_not_in_the_totals_yet_is_counted(used, read, key):
    send(event(key, NOW, input_tokens=1), now=NOW)
    assert read().json()["pending_events"] == 1


def test_filters_and_groups_speak_public_ids(used, read, acme, key):
    research = factories.project(acme, "Research")
    other = factories.api_key(acme, "Notebook", project=research).api_key.public_id
    send(event(other, BERLIN_DAY, input_tokens=7), event(acme.public_id, BERLIN_DAY, input_tokens=5), now=NOW)
    fold_all(NOW)
    params = {"from_": "2026-11-15", "to": "2026-11-16", "granularity": "total", "meter": "input_tokens"}
    by_key = read(**params, group_by="api_key").json()
    assert {one["api_key"]: one["value"] for one in by_key["items"]} == {key: "110", other: "7", None: "5"}
    assert by_key["names"]["api_key"] == {key: "Production", other: "Notebook"}
    only = read(**params, group_by="project,api_key", project=research.public_id, api_key=f"{key},{other}").json()
    assert [(one["project"], one["api_key"], one["value"]) for one in only["items"]] == [
        (research.public_id, other, "7")
    ]
    assert [one["value"] for one in read(**params, model=["m-2", "none"]).json()["items"]] == ["100"]


def test_labels_can_be_grouped_and_filtered_by(read, acme, key):
    Meter.objects.create(
        key="seconds",
        name="Seconds",
        event_type="ai.usage",
        value_field="seconds",
        aggregation="sum",
        unit="seconds",
        dimensions=["service_tier"],
    )
    send(event(key, BERLIN_DAY, seconds=1, service_tier="batch"), event(key, BERLIN_DAY, seconds=2), now=NOW)
    fold_all(NOW)
    params = {"granularity": "total", "meter": "seconds"}
    by_tier = read(**params, group_by="service_tier").json()["items"]
    assert {one["service_tier"]: one["value"] for one in by_tier} == {"batch": "1", None: "2"}
    only = read(**params, **{"label.service_tier": "batch"}).json()["items"]
    assert [one["value"] for one in only] == ["1"]


@pytest.mark.parametrize(
    ("params", "code"),
    [
        ({"from": "yesterday"}, "invalid_time"),
        ({"from": "2026-11-01T00:00:00"}, "invalid_time"),
        ({"from": "2026-13-01"}, "invalid_time"),
        ({"from": "0001-01-01T00:00:00+14:00"}, "invalid_time"),
        ({"to": "9999-12-31"}, "invalid_time"),
        ({"from": "2026-11-02", "to": "2026-11-01"}, "invalid_range"),
        ({"from": "2001-01-01"}, "invalid_range"),
        ({"granularity": "week"}, "invalid_granularity"),
        ({"group_by": "meter,colour"}, "invalid_group_by"),
        ({"group_by": "model"}, "mixed_units"),
        ({"group_by": "model", "meter": "output_tokens,reasoning_tokens"}, "mixed_units"),
        ({"meter": "nonsense"}, "unknown_meter"),
        ({"project": "proj_nobody"}, "unknown_project"),
        ({"api_key": "key_nobody"}, "unknown_api_key"),
        ({"limit": "0"}, "invalid_limit"),
        ({"limit": "1e9"}, "invalid_limit"),
        ({"cursor": "x"}, "invalid_cursor"),
        ({"cursor": "2026-11-03T11:00:00Z"}, "invalid_cursor"),
        ({"cursor": "2026-11-01T23:00:00Z", "granularity": "total"}, "invalid_cursor"),
        ({"form": "2026-11-01"}, "unknown_parameter"),
    ],
)
def test_what_is_wrong_is_refused_with_a_code(params, code, read):
    answer = read(**params)
    assert (answer.status_code, answer.json()["code"]) == (400, code), answer.content
    assert answer["Content-Type"] == "application/problem+json"


def test_a_key_of_another_organisation_does_not_exist(read, globex):
    theirs = factories.api_key(globex).api_key
    assert read(api_key=theirs.public_id).json()["code"] == "unknown_api_key"
    assert read(project=theirs.project.public_id).json()["code"] == "unknown_project"


def test_an_access_token_reads_its_own_organisation_only(used, read, globex, api):
    theirs = factories.access_token(globex).secret
    assert read(theirs, from_="2026-11-13").json()["items"] == []
    assert read(theirs, organisation="acme").status_code == 404


def test_a_service_token_names_the_organisation(used, read, service_token, acme):
    assert read(service_token.secret).json()["code"] == "organisation_required"
    assert read(service_token.secret, organisation=acme.public_id, granularity="total").json()["items"]


def test_a_token_without_the_scope_is_refused(acme, read):
    secret = factories.access_token(acme, scopes=["billing:read"]).secret
    assert read(secret).json()["code"] == "missing_scope"


def test_queries_do_not_grow_with_the_figures(used, read, key, django_assert_num_queries):
    params = {"from_": "2026-11-01", "to": "2026-11-16", "group_by": "meter,model,project,api_key"}
    read(**params)  # notes when the token was last used
    with django_assert_num_queries(7):
        read(**params)
    for number in range(10):
        send(event(key, BERLIN_DAY, model=f"x-{number}", input_tokens=1), now=NOW)
    fold_all(NOW)
    with django_assert_num_queries(7):
        read(**params)


def test_it_is_in_the_openapi_document(api, service_token):
    document = api(service_token.secret).get("/v1/openapi.json").json()
    operation = document["paths"]["/v1/usage"]["get"]
    assert {"from", "to", "group_by", "cursor"} <= {one["name"] for one in operation["parameters"]}
    assert operation["responses"]["200"]["content"]["application/json"]["examples"]
