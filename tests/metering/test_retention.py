"""Months of events dropped by policy: when they may go, what stays, and what the checks say afterwards."""

import gzip
import hashlib
import io
import json
import threading
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from django.core.management import CommandError, call_command
from django.db import OperationalError, connection, connections

from accounts.models import AuditEntry
from metering import partitions, tasks
from metering.aggregation import EventsDroppedError, compare_totals, rebuild_totals
from metering.archiving import ArchiveError, archive_month, parquet
from metering.models import DroppedMonth, Event, IngestBatch, RejectedEvent, TotalsCheck, UsageInterval
from metering.partitions import detach_partition, drop_detached, ensure_partitions, months_kept
from metering.retention import AlreadyDropping, drop_expired_months, drop_months, plan_dropping
from metering.seal_checks import check_seals
from metering.sealing import seal_days
from tests.metering.usage_world import event, fold_all, send

pytestmark = pytest.mark.django_db(transaction=True)

JANUARY, FEBRUARY, MARCH = date(2022, 1, 1), date(2022, 2, 1), date(2022, 3, 1)
NOW = datetime(2022, 7, 10, 12, tzinfo=UTC)
QUARTER = timedelta(minutes=15)


@pytest.fixture(autouse=True)
def _months():
    """Three months of their own, so that those of other tests are left alone."""
    ensure_partitions([JANUARY, FEBRUARY, MARCH])
    yield
    for month in (JANUARY, FEBRUARY, MARCH):
        if month in months_kept():
            detach_partition(month)
        drop_detached(month)


@pytest.fixture
def used(acme):
    """Two events received in January, one on the first of February that happened in January, one in March."""
    receive(acme, "a", datetime(2022, 1, 10, 8, tzinfo=UTC))
    receive(acme, "b", datetime(2022, 1, 31, 22, 7, tzinfo=UTC))
    receive(acme, "late", datetime(2022, 1, 31, 22, 9, tzinfo=UTC), received=datetime(2022, 2, 1, 9, tzinfo=UTC))
    receive(acme, "c", datetime(2022, 3, 5, 8, tzinfo=UTC))
    fold_all(NOW)
    while seal_days(now=NOW).more:
        pass
    return acme


def receive(organisation, event_id, at, received=None, backfill=True):
    one = event(organisation.public_id, at, event_id=event_id, input_tokens=10)
    return send(one, now=received or at + timedelta(seconds=1), backfill=backfill)


def drop(before, **options):
    return drop_months(before, **{"now": NOW, "archive": None, "actor": "test", **options})


@contextmanager
def another_reader():
    """Inside, a transaction that has read `event` stays open."""
    other = connections.create_connection("default")
    try:
        with other.cursor() as cursor:
            cursor.execute("BEGIN")
            cursor.execute("SELECT count(*) FROM event")
            yield
            cursor.execute("COMMIT")
    finally:
        other.close()


def totals():
    return set(UsageInterval.objects.values_list("series_id", "starts_at", "value", "count"))


def stored():
    return set(Event.objects.values_list("event_id", flat=True))


# --- What goes and what stays -----------------------------------------------------------------------------------------


def test_the_policy_keeps_that_many_whole_months(used, settings):
    settings.EVENT_RETENTION_MONTHS = 5
    done = drop_expired_months(now=NOW)
    assert [(row.month, row.event_count) for row in done.dropped] == [(JANUARY, 2)]
    assert done.refused is None
    assert stored() == {"late", "c"}
    assert (IngestBatch.objects.count(), UsageInterval.objects.filter(value=10).count()) == (4, 2)
    assert drop_expired_months(now=NOW).dropped == ()


def test_without_a_policy_everything_is_kept(used, settings):
    assert settings.EVENT_RETENTION_MONTHS == 0
    tasks.drop_expired_events()
    assert stored() == {"a", "b", "late", "c"}


def test_the_act_is_on_record(used):
    drop(FEBRUARY)
    entry = AuditEntry.objects.get(action="events.dropped")
    assert (entry.organisation, entry.actor_label, entry.subject_label) == (None, "test", "2022-01")
    assert entry.details["events"] == 2


def test_intake_goes_on_while_a_month_waits_to_be_detached(used, acme):
    """A reader of `event` that takes its time holds up the dropping, and the dropping holds up nobody."""

    def drop_january():
        drop(FEBRUARY)
        connections.close_all()

    dropper = threading.Thread(target=drop_january)
    with another_reader():
        dropper.start()
        for number in range(5):
            receive(acme, f"meanwhile {number}", NOW, backfill=False)
        assert "meanwhile 4" in stored()
        assert dropper.is_alive()
    dropper.join(20)
    assert JANUARY not in months_kept()


# --- When it may not go -----------------------------------------------------------------------------------------------


def test_what_the_late_window_may_need_is_kept(used, settings):
    settings.LATE_WINDOW_DAYS, settings.FUTURE_TOLERANCE_SECONDS = 35, 0
    free_at = datetime(2022, 2, 1, tzinfo=UTC) + timedelta(days=35 + 31)
    [planned] = plan_dropping(FEBRUARY, now=free_at - timedelta.resolution)
    assert "late window" in planned.refusal
    [planned] = plan_dropping(FEBRUARY, now=free_at)
    assert planned.refusal == ""


def test_a_policy_shorter_than_the_late_window_waits(used, settings):
    settings.EVENT_RETENTION_MONTHS, settings.LATE_WINDOW_DAYS = 1, 110
    assert drop_expired_months(now=NOW).dropped[-1].month == JANUARY
    assert months_kept()[:2] == [FEBRUARY, MARCH]


def test_what_is_not_in_the_totals_is_kept_and_so_is_all_after_it(used, acme):
    IngestBatch.objects.filter(receipt_month=FEBRUARY).update(folded_at=None)
    done = drop(date(2022, 4, 1))
    assert [row.month for row in done.dropped] == [JANUARY]
    assert (done.refused.month, "not in the totals" in done.refused.refusal) == (FEBRUARY, True)
    assert months_kept()[:2] == [FEBRUARY, MARCH]


def test_what_is_not_sealed_is_kept(acme):
    receive(acme, "a", datetime(2022, 1, 10, tzinfo=UTC))
    fold_all(NOW)
    assert "not sealed" in drop(FEBRUARY).refused.refusal
    assert stored() == {"a"}


def test_a_month_that_lacks_events_is_kept(used):
    with connection.cursor() as cursor:
        cursor.execute("SET session_replication_role = replica")
        cursor.execute("DELETE FROM event_2022_01 WHERE event_id = 'a'")
        cursor.execute("SET session_replication_role = origin")
    assert "2 events and 1 are there" in drop(FEBRUARY).refused.refusal
    assert DroppedMonth.objects.count() == 0


def test_two_processes_do_not_drop_at_once(used):
    other = connections.create_connection("default")
    try:
        with other.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_lock(5071203)")
            with pytest.raises(AlreadyDropping):
                drop(FEBRUARY)
            cursor.execute("SELECT pg_advisory_unlock(5071203)")
    finally:
        other.close()
    assert drop(FEBRUARY).dropped


@pytest.mark.parametrize("place", ["before", "while", "after"])
def test_a_dropping_interrupted_around_the_detaching_is_finished(used, place, monkeypatch):
    DroppedMonth.objects.create(
        month=JANUARY, event_count=2, last_time=datetime(2022, 1, 31, 22, 7, tzinfo=UTC), started_at=NOW
    )
    if place == "after":
        detach_partition(JANUARY)
    if place == "while":
        monkeypatch.setattr(partitions, "_LONGEST_WAIT", "300ms")
        with another_reader(), pytest.raises(OperationalError, match="statement timeout"):
            detach_partition(JANUARY)
    assert compare_totals() == []
    assert check_seals(used, now=NOW).findings == []
    [row] = drop(FEBRUARY).dropped
    assert (row.month, row.dropped_at) == (JANUARY, NOW)
    assert stored() == {"late", "c"}


# --- Afterwards -------------------------------------------------------------------------------------------------------


def test_comparing_begins_where_all_events_are_kept(used):
    """The quarter hour that a kept and a dropped event share cannot be compared; the next one can."""
    drop(FEBRUARY)
    assert DroppedMonth.objects.events_kept_from() == datetime(2022, 1, 31, 22, 15, tzinfo=UTC)
    assert compare_totals() == []
    UsageInterval.objects.filter(starts_at__gte=datetime(2022, 3, 1, tzinfo=UTC), value=10).update(value=11)
    assert {one.period for one in compare_totals()} == {"interval", "day"}
    tasks.compare_totals()
    assert TotalsCheck.objects.get().events_kept_from == datetime(2022, 1, 31, 22, 15, tzinfo=UTC)


def test_nothing_is_rebuilt_from_events_that_are_gone(used):
    drop(FEBRUARY)
    kept_from, before = DroppedMonth.objects.events_kept_from(), totals()
    with pytest.raises(EventsDroppedError, match="2022-01-31T22:15Z"):
        rebuild_totals(used, kept_from - QUARTER, kept_from + QUARTER)
    assert rebuild_totals(used, kept_from, NOW.replace(minute=0)).intervals == 2
    assert totals() == before


def test_seals_of_what_is_gone_still_hold(used):
    drop(FEBRUARY)
    checked = check_seals(used, now=NOW)
    assert (checked.findings, checked.seals, checked.days, checked.days_dropped) == ([], 4, 2, 2)


def test_a_backfill_cannot_count_again_what_is_gone(used):
    drop(FEBRUARY)
    again = event(used.public_id, datetime(2022, 1, 10, 8, tzinfo=UTC), event_id="a", input_tokens=10)
    with pytest.raises(AssertionError, match="no longer kept"):
        send(again, now=NOW)
    assert RejectedEvent.objects.get().reason == "too_old"
    receive(used, "a late one", datetime(2022, 1, 31, 22, 15, tzinfo=UTC), received=NOW)
    assert stored() == {"late", "c", "a late one"}


# --- Archives ---------------------------------------------------------------------------------------------------------


def test_a_month_is_written_whole_before_it_goes(used, tmp_path):
    [row] = drop(FEBRUARY, archive=tmp_path / "new").dropped
    lines = gzip.decompress(Path(row.archive).read_bytes()).decode().splitlines()
    first = {line["id"]: line for line in map(json.loads, lines)}["a"]
    assert len(lines) == 2
    assert first["organisation"] == used.public_id
    assert (first["source"], first["time"]) == ("gateway", "2022-01-10T08:00:00+00:00")
    assert (first["data"], first["received_at"]) == ({"model": "m-1", "input_tokens": 10}, "2022-01-10T08:00:01+00:00")
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["event_2022_01.ndjson.gz"]
    assert AuditEntry.objects.get(action="events.dropped").details["archive_sha256"] == row.archive_digest


def test_a_file_may_be_written_again_but_never_replaced_by_another(used, tmp_path):
    first = archive_month(JANUARY, tmp_path)
    assert archive_month(JANUARY, tmp_path) == first
    first.path.write_bytes(gzip.compress(b"{}\n"))
    with pytest.raises(ArchiveError, match="something else"):
        drop(FEBRUARY, archive=tmp_path)
    assert stored() >= {"a", "b"}
    assert DroppedMonth.objects.count() == 0


EXACT = Decimal("123456789012345678901.123456789012345678")


def test_a_month_may_be_written_as_parquet_with_every_digit(acme, tmp_path):
    receive(acme, "a", datetime(2022, 1, 10, 8, tzinfo=UTC))
    when = datetime(2022, 1, 20, tzinfo=UTC)
    send(event(acme.public_id, when, event_id="exact", output_tokens=EXACT), now=when, backfill=True)
    archive = archive_month(JANUARY, tmp_path, "parquet")
    rows = {row["id"]: row for row in pq.read_table(archive.path).to_pylist()}
    assert (archive.path.name, archive.events, len(rows)) == ("event_2022_01.parquet", 2, 2)
    assert hashlib.sha256(archive.path.read_bytes()).hexdigest() == archive.digest
    assert rows["a"]["received_at"] == datetime(2022, 1, 10, 8, 0, 1, tzinfo=UTC)
    assert (rows["a"]["organisation"], rows["a"]["time"]) == (acme.public_id, datetime(2022, 1, 10, 8, tzinfo=UTC))
    assert (rows["a"]["api_key_id"], rows["a"]["time_assumed"]) == (None, False)
    assert json.loads(rows["exact"]["data"], parse_float=Decimal)["output_tokens"] == EXACT
    assert archive_month(JANUARY, tmp_path, "parquet") == archive


@pytest.mark.parametrize("rows", [1, 1000])
def test_parquet_is_written_in_row_groups_of_bounded_size(used, tmp_path, monkeypatch, rows):
    monkeypatch.setattr(parquet, "GROUP_ROWS", rows)
    monkeypatch.setattr(parquet, "_ROWS_AT_ONCE", 1)
    path = archive_month(JANUARY, tmp_path, "parquet").path
    assert pq.ParquetFile(path).num_row_groups == (2 if rows == 1 else 1)


def test_a_file_of_parquet_that_holds_something_else_stops_the_dropping(used, tmp_path):
    path = archive_month(JANUARY, tmp_path, "parquet").path
    table = pq.read_table(path)
    pq.write_table(table.slice(0, 1), path)
    with pytest.raises(ArchiveError, match="something else"):
        drop(FEBRUARY, archive=tmp_path, format="parquet")
    path.write_bytes(b"PAR1")
    with pytest.raises(ArchiveError, match="could not be written"):
        drop(FEBRUARY, archive=tmp_path, format="parquet")
    assert stored() >= {"a", "b"}


def test_the_policy_writes_what_the_setting_says(used, settings, tmp_path):
    settings.EVENT_RETENTION_MONTHS, settings.EVENT_ARCHIVE_DIR = 5, str(tmp_path)
    settings.EVENT_ARCHIVE_FORMAT = "parquet"
    [row] = drop_expired_months(now=NOW).dropped
    assert Path(row.archive).name == "event_2022_01.parquet"
    assert pq.read_metadata(row.archive).num_rows == row.event_count == 2


def test_the_format_of_an_archive_can_be_said(used, tmp_path):
    done, _ = run("--before", "2022-02", "--yes", "--archive", str(tmp_path), "--format", "parquet")
    assert done["months"][0]["archive"].endswith("event_2022_01.parquet")


def test_nothing_goes_when_the_file_cannot_be_written(used, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ArchiveError):
        drop(FEBRUARY, archive=tmp_path / "file")
    assert stored() >= {"a", "b"}


# --- The command ------------------------------------------------------------------------------------------------------


def run(*arguments):
    out = io.StringIO()
    try:
        call_command("drop_events", *arguments, "--json", stdout=out, stderr=io.StringIO())
    except SystemExit as stop:
        return json.loads(out.getvalue()), stop.code
    return json.loads(out.getvalue()), 0


def test_the_command_only_shows_unless_told_yes(used, tmp_path):
    shown, code = run("--before", "2022-02")
    assert (shown["dropped"], [month["month"] for month in shown["months"]], code) == (False, ["2022-01"], 0)
    assert stored() == {"a", "b", "late", "c"}
    done, code = run("--before", "2022-02", "--yes", "--archive", str(tmp_path))
    assert (done["dropped"], done["months"][0]["events"], code) == (True, 2, 0)
    assert stored() == {"late", "c"}


def test_the_command_says_what_may_not_go(used):
    IngestBatch.objects.filter(receipt_month=JANUARY).update(folded_at=None)
    done, code = run("--before", "2022-02", "--yes")
    assert (done["refused"]["month"], done["months"], code) == ("2022-01", [], 1)


def test_the_command_takes_months_only():
    with pytest.raises(CommandError, match="not a month"):
        run("--before", "2022-02-01")
