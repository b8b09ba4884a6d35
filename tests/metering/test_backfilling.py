"""A meter counts what was there before it: to the last event, whatever cuts it off, and never what is billed."""

import json
from datetime import UTC, datetime, timedelta

import pytest
import time_machine
from django.core.management import call_command
from django.db.models import F
from django.urls import reverse

from accounts.models import AuditEntry
from metering import tasks
from metering.aggregation import compare_totals
from metering.backfilling import BackfillRuns, BackfillTooEarly, NothingToBackfill, run_backfill, start_backfill
from metering.models import BillingWindow, Meter, MeterBackfill, Series, UsageInterval
from metering.reports import usage
from tests.metering.meters_world import KINDS, figure, meter
from tests.metering.usage_world import correction, event, fold_all, send

pytestmark = pytest.mark.django_db

NOW = datetime(2026, 11, 15, 12, 0, tzinfo=UTC)
DAY = timedelta(days=1)
START = NOW - 5 * DAY
SIZES = [5, 2, 9, 2, 4, 9]


@pytest.fixture
def events(acme, globex):
    """Over three days of two organisations; one is voided, one has not been folded yet."""
    for organisation in (acme, globex):
        subject = organisation.public_id
        drafts = [
            event(subject, NOW - 3 * DAY + n * timedelta(hours=11), event_id=f"{organisation.slug}-{n}", size=size)
            for n, size in enumerate([*SIZES, 100])
        ]
        send(*drafts, now=NOW)
        send(correction(subject, f"{organisation.slug}-6", NOW), now=NOW)
    fold_all(NOW)
    send(event(acme.public_id, NOW - 4 * DAY, size=1000), now=NOW)


def figures(organisation):
    report = usage(
        organisation,
        start=START - 30 * DAY,
        end=NOW,
        granularity="total",
    )
    return {row.group[0]: row.value for row in report.rows if row.group[0].startswith("size_")}


def defined_today():
    return [meter(f"size_{kind}", aggregation=kind, effective_from=NOW) for kind in KINDS if kind != "average"]


def run(row, **options):
    while not (progress := run_backfill(row, now=NOW, steps=1)).is_finished:
        pass
    return progress


def test_every_aggregation_counts_what_was_there_before(events, acme, globex):
    for one in defined_today():
        row = start_backfill(one, START, now=NOW, actor="test")
        assert (row.organisations, row.end) == (2, NOW)
        progress = run(row)
        assert (progress.done, progress.is_finished) == (2, True)
    wanted = {f"size_{kind}": figure(kind, SIZES) for kind in KINDS if kind != "average"}
    assert figures(globex) == wanted
    assert figures(acme) == wanted
    assert compare_totals() == []
    fold_all(NOW)
    assert figures(acme)["size_sum"] == sum(SIZES) + 1000
    assert compare_totals() == []


def test_late_events_count_once_while_it_runs(events, acme, globex):
    one = meter("size_sum", effective_from=NOW)
    row = start_backfill(one, START, now=NOW, actor="test")
    run_backfill(row, now=NOW, steps=2)
    for at in (NOW - 4 * DAY, NOW - DAY):
        send(event(acme.public_id, at, size=1), event(globex.public_id, at, size=1), now=NOW)
    fold_all(NOW)
    run(row)
    assert figures(acme) == {"size_sum": sum(SIZES) + 1002}
    assert figures(globex) == {"size_sum": sum(SIZES) + 2}
    assert compare_totals() == []


def test_the_comparison_leaves_out_what_is_not_made_yet_and_nothing_else(events, acme, globex):
    sizes, users = (
        meter("size_sum", effective_from=NOW),
        meter("size_ids", aggregation="unique_count", effective_from=NOW),
    )
    requests = Meter.objects.get(key="requests")
    for one in (sizes, users):
        start_backfill(one, START, now=NOW, actor="test")
    fold_all(NOW)  # the event that came later counts at once, in the midst of what is missing
    for steps in range(8):
        assert compare_totals() == [], steps
        for row in MeterBackfill.objects.unfinished():
            run_backfill(row, now=NOW, steps=1)
    spoilt = {"value": F("value") + 1}
    UsageInterval.objects.filter(series_id__in=ids_of(requests)).update(**spoilt)
    assert {one.series_id for one in compare_totals() if one.period == "interval"} == ids_of(requests)
    for row in MeterBackfill.objects.unfinished():
        run(row)
    UsageInterval.objects.filter(series_id__in=ids_of(sizes)).update(**spoilt)
    found = {one.series_id for one in compare_totals() if one.period == "interval"}
    assert found == ids_of(requests) | ids_of(sizes)


def test_what_a_backfill_has_made_already_is_compared_while_it_goes_on(events, acme, globex):
    one = meter("size_sum", effective_from=NOW)
    row = start_backfill(one, START, now=NOW, actor="test")
    run_backfill(row, now=NOW, steps=3)
    made = UsageInterval.objects.filter(series_id__in=ids_of(one))
    assert made.exists()
    made.update(value=0)
    assert compare_totals() != []


def ids_of(one):
    return {str(pk) for pk in Series.objects.filter(meter=one).values_list("id", flat=True)}


def test_doing_a_day_again_changes_nothing(events, globex):
    row = start_backfill(meter("size_sum", effective_from=NOW), START, now=NOW, actor="test")
    run(row)
    before = figures(globex)
    MeterBackfill.objects.update(finished_at=None, organisation_id=None, done_until=None, organisations_done=0)
    run(row)
    assert figures(globex) == before
    assert compare_totals() == []


def test_it_never_reaches_behind_a_running_billing_period_or_into_the_meters_own_time(events, acme, globex):
    one = meter("size_sum", effective_from=NOW)
    for organisation, begun in ((acme, 4), (globex, 2)):
        for before in (begun, begun + 30):
            at = NOW - before * DAY
            BillingWindow.objects.create(organisation=organisation, starts_at=at, ends_at=at + 30 * DAY)
    with pytest.raises(BackfillTooEarly, match="2026-11-13T12:00Z or later"):
        start_backfill(one, NOW - 2 * DAY - timedelta(minutes=15), now=NOW, actor="test")
    with pytest.raises(NothingToBackfill):
        start_backfill(one, NOW, now=NOW, actor="test")
    with pytest.raises(BackfillTooEarly):
        start_backfill(one, NOW - timedelta(minutes=1), now=NOW, actor="test")
    start_backfill(one, NOW - 2 * DAY, now=NOW, actor="test")
    one.refresh_from_db()
    with pytest.raises(NothingToBackfill):
        start_backfill(one, NOW - DAY, now=NOW, actor="test")


def test_one_meter_has_one_backfill_at_a_time(events):
    one = meter("size_sum", effective_from=NOW)
    start_backfill(one, NOW - 2 * DAY, now=NOW, actor="test")
    with pytest.raises(BackfillRuns):
        start_backfill(one, START, now=NOW, actor="test")


def test_the_task_and_the_command_run_it_to_the_end(events, acme, capsys):
    meter("size_sum", effective_from=NOW)
    with time_machine.travel(NOW, tick=False):
        start_backfill(meter("size_max", aggregation="max", effective_from=NOW), START, now=NOW, actor="test")
        tasks.run_meter_backfills()
        assert MeterBackfill.objects.unfinished().count() == 0
        call_command("backfill_meter", "--meter", "size_sum", "--start", START.isoformat(), "--json")
    told = json.loads(capsys.readouterr().out)
    assert (told["organisations"], told["running"]) == (2, False)
    assert figures(acme) == {"size_sum": sum(SIZES), "size_max": 9}
    assert compare_totals() == []


@time_machine.travel(NOW, tick=False)
def test_operators_start_one_and_see_how_far_it_is(events, client_for, operator):
    one = meter("size_sum", effective_from=NOW)
    client = client_for(operator)
    address = reverse("admin:metering_meterbackfill_add")
    posted = {"meter": one.pk, "start_0": "2026-11-10", "start_1": "12:00"}
    assert client.post(address, posted | {"start_1": "12:01"}).status_code == 200
    assert client.post(address, posted).status_code == 302
    row = MeterBackfill.objects.get()
    run(row)
    shown = client.get(reverse("admin:metering_meterbackfill_changelist")).content.decode()
    assert "2 of 2" in shown
    assert AuditEntry.objects.get(action="meter.backfill_started").actor == operator


@time_machine.travel(NOW, tick=False)
def test_it_is_started_and_watched_over_the_api(events, api, service_token):
    meter("size_sum", effective_from=NOW)
    client = api(service_token.secret)
    started = client.post("/v1/meters/size_sum/backfills", {"start": "2026-11-10T12:00:00Z"})
    assert (started.status_code, started.json()["finished_at"]) == (202, None)
    refused = client.post("/v1/meters/size_sum/backfills", {"start": "2026-11-09T12:00:00Z"})
    assert (refused.status_code, refused.json()["code"]) == (409, "backfill_runs")
    run(MeterBackfill.objects.get())
    [watched] = client.get("/v1/meters/size_sum/backfills").json()["items"]
    assert (watched["organisations_done"], watched["finished_at"]) == (2, "2026-11-15T12:00:00Z")
