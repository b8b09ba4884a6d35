"""What is written to totals after they were billed is noted, by whatever writes them, and nothing else is."""

from datetime import UTC, datetime, timedelta
from threading import Event

import pytest
from django.db import connection, transaction

from accounts.remembering import remembering
from metering import billed_usage
from metering.aggregation import fold_pending, rebuild_days, rebuild_totals
from metering.backfilling import run_backfill, start_backfill
from metering.billed_usage import (
    CHANGES_KEPT,
    Span,
    TotalsBeingMade,
    has_changed,
    hold_totals,
    merge_changes_before,
    merge_old_changes,
    newest_change,
    note_billed,
)
from metering.models import BilledUsage, BilledUsageChange
from tests.accounts.threads import at_once
from tests.metering.meters_world import meter
from tests.metering.usage_world import correction, event, fold_all, send

NOW = datetime(2026, 11, 15, 12, 0, tzinfo=UTC)
NOVEMBER, OCTOBER = datetime(2026, 11, 1, tzinfo=UTC), datetime(2026, 10, 1, tzinfo=UTC)
DAY = timedelta(days=1)


def bill(organisation, until=NOVEMBER) -> None:
    with transaction.atomic():
        hold_totals([organisation])
        note_billed({organisation: until})


def noted() -> list[tuple[int, datetime, datetime]]:
    rows = BilledUsageChange.objects.order_by("pk")
    return list(rows.values_list("organisation_id", "starts_at", "ends_at"))


def use(organisation, *times: datetime) -> None:
    send(*(event(organisation.public_id, at, size=1) for at in times), now=NOW)


@pytest.mark.django_db
def test_folding_notes_usage_of_before_the_last_bill_and_no_other(acme, globex):
    bill(acme)
    use(acme, NOVEMBER)
    use(globex, NOVEMBER - DAY)
    use(acme, NOVEMBER - 3 * DAY, NOVEMBER - 2 * DAY)
    fold_all(NOW)

    assert noted() == [(acme.pk, NOVEMBER - 3 * DAY, NOVEMBER - 2 * DAY + timedelta.resolution)]


@pytest.mark.django_db
def test_corrections_are_noted_at_what_they_correct(acme):
    send(event(acme.public_id, NOVEMBER - 5 * DAY, event_id="one", size=1), now=NOW)
    fold_all(NOW)
    bill(acme)
    send(correction(acme.public_id, "one", NOW), now=NOW)
    fold_all(NOW)

    ((_, start, end),) = noted()
    assert start <= NOVEMBER - 5 * DAY < end


@pytest.mark.django_db
def test_every_way_of_making_totals_anew_is_noted(acme):
    use(acme, NOVEMBER - 5 * DAY, NOVEMBER + DAY)
    fold_all(NOW)
    bill(acme)
    rebuild_totals(acme, NOVEMBER, NOVEMBER + 2 * DAY)
    assert noted() == []

    rebuild_totals(acme, NOVEMBER - 6 * DAY, NOVEMBER)
    rebuild_days(acme)
    largest = meter("size_max", aggregation="max", effective_from=NOW)
    row = start_backfill(largest, NOVEMBER - 6 * DAY, now=NOW, actor="test")
    while not run_backfill(row, now=NOW, steps=1).is_finished:
        pass

    whole, days, *backfilled = noted()
    assert whole == (acme.pk, NOVEMBER - 6 * DAY, NOVEMBER)
    assert days[1] < OCTOBER
    assert days[2] > NOVEMBER
    assert any(start <= NOVEMBER - 5 * DAY < end for _, start, end in backfilled)


@pytest.mark.django_db
def test_what_is_billed_never_goes_back(acme, globex):
    bill(acme)
    bill(acme, until=OCTOBER)
    bill(globex, until=OCTOBER)

    assert dict(BilledUsage.objects.values_list("organisation", "until")) == {acme.pk: NOVEMBER, globex.pk: OCTOBER}


@pytest.mark.django_db
def test_a_change_counts_where_it_lies_and_when_it_is_newer(acme, globex):
    bill(acme)
    before = newest_change(acme)
    use(acme, NOVEMBER - DAY)
    fold_all(NOW)
    after = newest_change(acme)

    spans = [
        Span(acme, OCTOBER, NOVEMBER, before),
        Span(acme, OCTOBER, NOVEMBER, after),
        Span(acme, OCTOBER, NOVEMBER - DAY, before),
        Span(acme, NOVEMBER, NOW, before),
        Span(globex, OCTOBER, NOVEMBER, 0),
    ]
    with remembering():
        billed_usage.look_up_changes(spans)
        assert [has_changed(span) for span in spans] == [True, False, False, False, False]
    assert [has_changed(span) for span in spans] == [True, False, False, False, False]
    assert before < after
    assert newest_change(globex) == 0


@pytest.fixture
def old_changes(acme, globex) -> list[int]:
    """The numbers of three old changes of Acme's, of different days, and of a new one; Globex has an old one."""
    bill(acme)
    bill(globex)
    numbers = []
    for days in (9, 3, 6, 1):
        use(acme, NOVEMBER - days * DAY)
        fold_all(NOW)
        numbers.append(newest_change(acme))
    use(globex, NOVEMBER - DAY)
    fold_all(NOW)
    BilledUsageChange.objects.exclude(pk=numbers[-1]).update(noticed_at=NOW - CHANGES_KEPT - DAY)
    BilledUsageChange.objects.filter(pk=numbers[-1]).update(noticed_at=NOW - CHANGES_KEPT + DAY)
    return numbers


@pytest.mark.django_db
def test_old_changes_become_one_that_covers_them_and_new_ones_stay(acme, globex, old_changes):
    assert merge_old_changes(NOW) == 2

    covered = (acme.pk, NOVEMBER - 9 * DAY, NOVEMBER - 3 * DAY + timedelta.resolution)
    kept = (acme.pk, NOVEMBER - DAY, NOVEMBER - DAY + timedelta.resolution)
    assert noted() == [covered, kept, (globex.pk, *kept[1:])]
    assert newest_change(acme) == old_changes[-1]
    assert merge_old_changes(NOW) == 0


@pytest.mark.django_db
def test_merging_hides_no_change_and_shows_none_to_who_knew_all(acme, old_changes):
    edges = [OCTOBER, *(NOVEMBER - days * DAY for days in range(12, -1, -1))]
    spans = [Span(acme, start, NOVEMBER, after) for start in edges[:-1] for after in (0, *old_changes)]
    before = [has_changed(span) for span in spans]

    merge_old_changes(NOW)

    assert all(has_changed(span) for span, changed in zip(spans, before, strict=True) if changed)
    known = [span for span in spans if span.after >= old_changes[2]]
    assert [has_changed(span) for span in known] == [span.after < old_changes[3] for span in known]


@pytest.mark.django_db
def test_more_changes_than_are_merged_at_once_become_one_all_the_same(acme, old_changes, monkeypatch):
    monkeypatch.setattr(billed_usage, "MERGED_AT_ONCE", 1)
    assert merge_changes_before(NOW) == 3
    assert noted()[0][1:] == (NOVEMBER - 9 * DAY, NOVEMBER - DAY + timedelta.resolution)


@pytest.mark.django_db(transaction=True)
def test_changes_merged_by_several_at_once_are_merged_once(acme, old_changes):
    assert sum(at_once(*[lambda: merge_old_changes(NOW)] * 4)) == 2
    assert len(noted()) == 3


@pytest.mark.django_db(transaction=True)
def test_nothing_is_folded_while_totals_are_held_and_everything_is_noted_after(acme):
    use(acme, NOVEMBER - DAY)
    held, folded = Event(), Event()

    def close() -> int:
        with transaction.atomic():
            hold_totals([acme])
            held.set()
            folded.wait(10)
            note_billed({acme: NOVEMBER})
            return newest_change(acme)

    def fold() -> int:
        held.wait(10)
        batches = fold_pending(now=NOW).batches
        folded.set()
        return batches

    before, batches = at_once(close, fold)
    assert (before, batches) == (0, 0)

    fold_all(NOW)
    assert len(noted()) == 1
    assert has_changed(Span(acme, OCTOBER, NOVEMBER, before))


@pytest.mark.django_db(transaction=True)
def test_who_holds_totals_waits_for_folds_that_run_and_not_for_long(acme, monkeypatch):
    monkeypatch.setattr(billed_usage, "WAIT", "SET LOCAL lock_timeout = '100ms'")
    use(acme, NOVEMBER - DAY)
    running, refused = Event(), Event()

    def fold() -> None:
        with transaction.atomic():
            fold_pending(now=NOW)
            running.set()
            refused.wait(10)

    def hold() -> str:
        running.wait(10)
        try:
            with transaction.atomic(), pytest.raises(TotalsBeingMade):
                hold_totals([acme])
            with connection.cursor() as cursor:
                cursor.execute("SHOW lock_timeout")
                return str(cursor.fetchone()[0])
        finally:
            refused.set()

    assert at_once(fold, hold) == [None, "0"]
    bill(acme)
