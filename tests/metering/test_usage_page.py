import csv
import io
import re
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
import time_machine
from django.urls import reverse

from metering.models import Meter
from metering.usage_page import safe_cell
from tests import factories
from tests.metering.usage_world import event, fold_all, send

pytestmark = pytest.mark.django_db

NOW = datetime(2026, 11, 15, 12, 0, tzinfo=UTC)
HTMX = {"HX-Request": "true"}


@pytest.fixture(autouse=True)
def _now():
    with time_machine.travel(NOW, tick=False):
        yield


@pytest.fixture
def key(acme_key):
    return acme_key.api_key.public_id


@pytest.fixture
def used(acme, key):
    """Two days of three models, and one call of the month before."""
    for days in range(2):
        at = NOW - timedelta(days=days, hours=1)
        send(event(key, at, model="m-1", input_tokens=1_000_000 + days, output_tokens="0.25"), now=NOW)
        send(event(key, at, model="=cmd|'/c calc'!A1", input_tokens=7, cache_read_tokens=40), now=NOW)
    send(event(acme.public_id, NOW - timedelta(days=20), model="m-3", input_tokens=5), now=NOW)
    fold_all(NOW)


@pytest.fixture
def page(client_for, vera, acme):
    """What a viewer sees with these parameters; HTML by default."""

    def get(address="metering:usage", headers=None, **params):
        named = {name.rstrip("_"): value for name, value in params.items()}
        return client_for(vera).get(reverse(address, args=["acme"]), named, headers=headers or {})

    return get


def text(response):
    return re.sub(r"\s+", " ", response.content.decode())


def lines(response):
    return list(csv.DictReader(io.StringIO(b"".join(response.streaming_content).decode())))


def test_a_viewer_reads_the_month_by_model(used, page):
    shown = text(page())
    assert "2,000,055.50" not in shown
    assert "2,000,095.5" in shown  # tokens in total: 2,000,001 + 14 + 80 + 0.5
    assert '<th scope="row">m-1' in shown
    assert '<th scope="row">m-3' not in shown


@pytest.mark.parametrize("address", ["metering:usage", "metering:usage_csv"])
def test_gus_finds_nothing_at_the_address(address, used, client_for, gus, globex):
    assert client_for(gus).get(reverse(address, args=["acme"])).status_code == 404


@pytest.mark.parametrize("address", ["metering:usage", "metering:usage_csv"])
def test_strangers_are_asked_to_sign_in(address, acme, client):
    answer = client.get(reverse(address, args=["acme"]))
    assert (answer.status_code, "login" in answer["Location"]) == (302, True)


def test_htmx_gets_the_figures_only_and_caches_know(used, page):
    whole, part = page(), page(headers=HTMX)
    assert "<html" in text(whole)
    assert "<html" not in text(part)
    assert 'id="usage-figures"' in text(part)
    assert "HX-Request" in part["Vary"]


def test_poll_is_answered_with_nothing_until_something_changes(used, page, key):
    seen = re.search(r"seen=(\w+)", text(page(range="month"))).group(1)
    assert page(headers=HTMX, range="month", seen=seen).status_code == 204
    send(event(key, NOW, input_tokens=1), now=NOW)
    assert "1 event being added" in text(page(headers=HTMX, range="month", seen=seen))
    fold_all(NOW)
    again = page(headers=HTMX, range="month", seen=seen)
    assert (again.status_code, "being added" in text(again)) == (200, False)


def test_only_a_running_range_is_polled(used, page):
    assert "every 4s" in text(page(range="today"))
    assert "every 4s" not in text(page(range="last_month"))


@pytest.mark.parametrize(
    ("params", "expected"),
    [
        ({"range": "today"}, "1000047.25"),
        ({"range": "7d"}, "2000095.5"),
        ({"range": "last_month"}, "5"),
        ({"range": "30d"}, "2000100.5"),
        ({"range": "custom", "from": "2026-10-26", "to": "2026-10-26"}, "5"),
        ({"range": "custom", "from": "2026-11-14", "to": "2026-11-14"}, "1000048.25"),
        ({"range": "7d", "model": "m-1"}, "2000001.5"),
        ({"range": "7d", "measure": "requests"}, "4"),
        ({"range": "30d", "measure": "input_tokens", "group": "api_key"}, "2000020"),
        ({"range": "7d", "granularity": "hour"}, "2000095.5"),
        ({"range": "today", "granularity": "interval", "group": "meter"}, "1000047.25"),
        ({"range": "30d", "granularity": "month", "group": "project"}, "2000100.5"),
    ],
)
def test_page_csv_and_api_show_the_same_figures(params, expected, used, page, api, acme_access_token):
    shown = page(**params)
    assert shown.context["figures"].total == Decimal(expected)
    assert sum(Decimal(line["value"]) for line in lines(page("metering:usage_csv", **params))) == Decimal(expected)
    question = shown.context["question"]
    asked = {
        "from": question.start.isoformat(),
        "to": question.end.isoformat(),
        "granularity": question.granularity,
        "group_by": question.group,
        "meter": ",".join(question.meters),
        "model": list(question.filters.models),
        "limit": 1000,
    }
    answer = api(acme_access_token.secret).get("/v1/usage", asked).json()
    assert sum(Decimal(one["value"]) for one in answer["items"]) == Decimal(expected)
    drawn = shown.context["figures"].chart["series"]
    assert sum(value for one in drawn for value in one["values"]) == Decimal(expected)


def test_csv_is_a_file_that_no_spreadsheet_runs(used, page):
    answer = page("metering:usage_csv", range="7d", measure="input_tokens")
    assert answer["Content-Type"] == "text/csv; charset=utf-8"
    assert answer["Content-Disposition"] == 'attachment; filename="usage-acme-2026-11-09-to-2026-11-15.csv"'
    found = lines(answer)
    assert {line["model"] for line in found} == {"m-1", "'=cmd|'/c calc'!A1"}
    assert found[0] == {
        "start": "2026-11-14T00:00:00+01:00",
        "time_zone": "Europe/Berlin",
        "model_id": "'=cmd|'/c calc'!A1",
        "model": "'=cmd|'/c calc'!A1",
        "measure": "input_tokens",
        "unit": "tokens",
        "value": "7",
        "events": "1",
    }


@pytest.mark.parametrize("cell", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1"])
def test_cells_that_begin_like_formulas_are_quoted(cell):
    assert safe_cell(cell) == f"'{cell}"
    assert safe_cell(f"a{cell}") == f"a{cell}"


def test_more_models_than_colours_are_drawn_as_others(used, page, key):
    for number in range(12):
        send(event(key, NOW, model=f"x-{number:02}", input_tokens=number + 1), now=NOW)
    fold_all(NOW)
    figures = page(range="today").context["figures"]
    assert [one["name"] for one in figures.chart["series"]][-1] == "7 others"
    assert len(figures.chart["series"]) == 8
    assert len(figures.listed) == 14
    assert sum(sum(one["values"]) for one in figures.chart["series"]) == figures.total


def test_names_stand_for_ids(used, page, acme):
    factories.api_key(acme, "Notebook")
    shown = text(page(range="30d", group="api_key"))
    assert "Production" in shown
    assert "no key (sent for the organisation)" in shown


def test_nothing_ever_says_what_to_do_next(page, acme, key):
    shown = text(page())
    assert "No usage yet" in shown
    assert reverse("accounts:key_create", args=["acme"]) in shown
    assert "/v1/events" in shown
    assert key in shown


def test_no_match_is_not_no_usage(used, page):
    shown = text(page(range="custom", from_="2026-01-01", to="2026-01-31"))
    assert "Nothing was used here" in shown
    assert "No usage yet" not in shown


@pytest.mark.parametrize(
    "params",
    [
        {"range": "custom", "from": "2026-11-10", "to": "2026-11-01"},
        {"range": "custom", "from": "soon"},
        {"range": "custom", "from": "0001-01-01"},
        {"range": "custom", "to": "9999-12-31"},
        {"range": "custom", "from": "2010-01-01", "to": ""},
        {"range": "custom", "from": "1900-01-01", "to": "1900-02-01"},
        {"range": "custom", "from": "2001-01-01", "to": "2026-01-01"},
        {"range": "decade"},
        {"model": "unknown"},
        {"key": "key_of_somebody_else"},
        {"measure": "nonsense"},
    ],
)
def test_what_cannot_be_read_is_said_and_the_page_stands(params, used, page):
    answer = page(headers=HTMX, **params)
    assert answer.status_code == 200
    assert answer.context["form"].errors
    assert 'id="usage-errors"' in text(answer)


def test_long_ranges_do_not_become_hairlines(used, page):
    asked = {"range": "custom", "from": "2025-01-01", "to": "2026-11-15"}
    assert page(**asked, granularity="interval").context["question"].granularity == "month"
    assert page(**asked).context["question"].granularity == "month"
    assert page(range="today").context["question"].granularity == "hour"
    assert page(range="month").context["question"].granularity == "day"


def test_the_hour_that_comes_twice_is_drawn_twice(acme, olivia, client_for, gus):
    new_york = factories.organisation("New York", olivia, slug="new-york", time_zone="America/New_York")
    for at in (datetime(2025, 11, 2, 5, 30, tzinfo=UTC), datetime(2025, 11, 2, 6, 30, tzinfo=UTC)):
        send(event(new_york.public_id, at, input_tokens=3), now=NOW)
    fold_all(NOW)
    params = {"range": "custom", "from": "2025-11-02", "to": "2025-11-02", "granularity": "hour"}
    figures = client_for(olivia).get(reverse("metering:usage", args=["new-york"]), params).context["figures"]
    [series] = figures.chart["series"]
    assert (len(series["values"]), series["values"].count(3)) == (25, 2)
    assert figures.chart["labels"].count("01:00") == 2


def test_queries_do_not_grow_with_keys_and_models(used, page, key, acme, django_assert_num_queries, client_for, vera):
    client = client_for(vera)
    address = reverse("metering:usage", args=["acme"])
    client.get(address)
    with django_assert_num_queries(QUERIES):
        client.get(address, {"group": "api_key"})
    for number in range(8):
        other = factories.api_key(acme, f"Key {number}").api_key.public_id
        send(event(other, NOW, model=f"x-{number}", input_tokens=1), now=NOW)
    fold_all(NOW)
    with django_assert_num_queries(QUERIES):
        client.get(address, {"group": "api_key"})


# Session, user, membership, the organisations of the menu; meters (twice), projects, keys, models; figures, the
# names of keys, tiles, lag, last receipt.
QUERIES = 14


def test_a_meter_of_the_operator_can_be_chosen(acme, key, page):
    Meter.objects.create(
        key="gpu_seconds",
        name="GPU seconds",
        event_type="ai.usage",
        value_field="gpu_seconds",
        aggregation="sum",
        unit="seconds",
        dimensions=["model"],
    )
    send(event(key, NOW, gpu_seconds="1.5"), now=NOW)
    fold_all(NOW)
    shown = page(measure="gpu_seconds")
    assert shown.context["figures"].total == Decimal("1.5")
    assert "GPU seconds by model" in text(shown)


def test_a_meter_that_is_no_sum_is_never_added_up(page, key):
    Meter.objects.create(
        key="peak",
        name="Peak",
        event_type="ai.usage",
        value_field="peak",
        aggregation="max",
        unit="GB",
        dimensions=["model"],
    )
    for hours, (model, peak) in enumerate([("m-1", 5), ("m-1", 9), ("m-2", 7), ("m-2", 7)]):
        send(event(key, NOW - timedelta(hours=24 * hours + 1), model=model, peak=peak), now=NOW)
    fold_all(NOW)
    shown = page(measure="peak")
    listed = text(shown)[text(shown).index('id="usage-list"') :]
    assert re.findall(r'data-label="GB">([^<]*)<', listed) == ["9", "7", "9"]
    assert "All together" in listed
    assert "Share" not in listed
    chart = shown.context["figures"].chart
    assert (chart["stacked"], chart["total"]) == (False, False)
    assert {value for one in chart["series"] for value in one["values"]} == {None, 5, 7, 9}
    csv_values = [row["value"] for row in lines(page("metering:usage_csv", measure="peak"))]
    assert sorted(csv_values) == ["5", "7", "7", "9"]


def test_usage_is_split_by_any_label_that_a_meter_keeps(page, key):
    Meter.objects.create(
        key="calls", name="Calls", event_type="ai.usage", aggregation="count", unit="calls", dimensions=["service_tier"]
    )
    send(event(key, NOW, service_tier="batch"), event(key, NOW), now=NOW)
    fold_all(NOW)
    shown = text(page(measure="calls", group="service_tier"))
    assert "Calls by service tier" in shown
    assert '<th scope="row">batch</th>' in shown
    assert '<th scope="row">none</th>' in shown
