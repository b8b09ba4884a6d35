"""Every aggregation under everything that may happen to it, in any order: totals are what the raw events imply.

Batches, resends, conflicts, late events, voids, amendments and amendments of amendments, folds by two connections of
which one gives up, workers killed between two statements, rebuilds: against a model in plain Python.
"""

import signal
from datetime import UTC, timedelta
from decimal import Decimal

import pytest
from django.db import connection
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import rule, run_state_machine_as_test

from metering.aggregation import compare_totals
from metering.exact import average
from metering.identity import event_key
from metering.models import IngestBatch, Meter
from metering.quarter_hours import floor
from metering.reports import UsageFilter, usage
from tests.metering.meters_world import KINDS, figure, meter_of_every_kind
from tests.metering.test_corrections_in_any_order import CorrectedTotals, offer, subjects
from tests.metering.test_folding_side_by_side import NOW, fold_until_released, go, worker
from tests.metering.usage_world import correction, event, send

__all__ = ["subjects"]

pytestmark = pytest.mark.django_db(transaction=True)

TABLES = "event, event_correction, ingest_batch, series, usage_interval, usage_day, usage_unique, usage_unique_day"


class AllTotals(CorrectedTotals):
    """The same world, with a meter of every aggregation over its tokens."""

    organisations = ()

    def __init__(self):
        super().__init__()
        with connection.cursor() as cursor:
            cursor.execute(f"TRUNCATE {TABLES}")

    @rule(days=st.integers(1, 34), tokens=st.sampled_from([3, "0.1", 250]))
    def send_a_late_event(self, days, tokens):
        self.number += 1
        late = event(
            self.subjects[0], NOW - timedelta(days=days), event_id=f"e-{self.number}", model="m-0", input_tokens=tokens
        )
        send(late, now=NOW, backfill=False)
        self.sent.append([late])
        self.events[late.event_id] = late

    @rule(data=st.data())
    def send_another_body_under_a_known_name(self, data):
        if self.sent:
            known = data.draw(st.sampled_from(data.draw(st.sampled_from(self.sent))))
            other = event(known.subject, known.time, event_id=known.event_id, input_tokens=777)
            assert [one.verdict for one in offer(other)] == ["conflict"]

    def teardown(self):
        super().teardown()
        for organisation, subject in zip(self.organisations, self.subjects, strict=True):
            counted = [
                (draft.time, event_key(draft.source, draft.event_id), draft.data)
                for draft in self.events.values()
                if draft.subject == subject and draft.data["input_tokens"] is not None
            ]
            counted.sort(key=lambda one: one[:2])
            self.check(organisation, counted)

    def check(self, organisation, counted):
        start, end = NOW - timedelta(days=40), NOW + timedelta(hours=1)
        for granularity, place in (("interval", lambda at: floor(at)), ("total", lambda at: start.astimezone(UTC))):
            report = usage(
                organisation,
                start=start,
                end=end,
                granularity=granularity,
                group_by=("meter", "model"),
                filters=UsageFilter(meters=tuple(f"size_{kind}" for kind in KINDS)),
            )
            found = {(row.start, *row.group): (row.value, row.count) for row in report.rows}
            assert found == expected(counted, place)


def expected(counted, place):
    """(bucket, meter, model) -> value and number of events."""
    groups = {}
    for at, _, data in counted:
        groups.setdefault((place(at), data["model"]), []).append(Decimal(data["input_tokens"]))
    found = {}
    for (at, model), sizes in groups.items():
        for kind in KINDS:
            value = figure(kind, sizes)
            value = average(value, len(sizes)) if kind == "average" else value
            found[at, f"size_{kind}", model] = (value, len(sizes))
    return found


def test_any_order_of_anything_ends_in_what_raw_events_imply(subjects, acme, globex):
    for one in meter_of_every_kind():
        if one.value_field:
            one.value_field = "input_tokens"
            one.save()
    # Every event counts; this one is to count the same events as the others.
    Meter.objects.filter(key="size_count").update(filters=[{"field": "input_tokens", "operator": "exists"}])
    AllTotals.subjects = tuple(subjects)
    AllTotals.organisation = acme
    AllTotals.organisations = (acme, globex)
    quick = settings(max_examples=12, stateful_step_count=20, deadline=None, suppress_health_check=list(HealthCheck))
    run_state_machine_as_test(AllTotals, settings=quick)


@pytest.mark.parametrize("words", ["WITH \nread", "WITH of_meters", "UPDATE ingest_batch"])
def test_a_worker_killed_between_statements_leaves_no_half_of_a_total(subjects, words):
    meter_of_every_kind()
    for n in range(6):
        send(event(subjects[n % 2], NOW - timedelta(minutes=n), event_id=f"o-{n}", size=n % 5), now=NOW)
    send(correction(subjects[0], "o-4", NOW), now=NOW)
    with worker(words) as doomed:
        go(doomed)
        assert doomed.stdout.readline() == "waiting\n"
        doomed.send_signal(signal.SIGKILL)
        doomed.wait()
        fold_until_released()
    assert compare_totals() == []
    assert IngestBatch.objects.pending().count() == 0
