"""Corrections among batches, resends, folds and rebuilds in any order, by rivals too: totals stay exact."""

import threading
from datetime import timedelta

import pytest
from django.db import connection
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import rule, run_state_machine_as_test

from metering.aggregation import compare_totals, fold_pending
from metering.intake import accept
from metering.models import Correction, UsageInterval
from tests import factories
from tests.metering.test_folding_side_by_side import NOW, TOKENS, Totals
from tests.metering.usage_world import correction, event, fold_all, send

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def subjects(acme, globex):
    return [factories.api_key(one).api_key.public_id for one in (acme, globex)]


def offer(*drafts):
    return accept(drafts, format="test", service_token_id=None, now=NOW, backfill=True)


class CorrectedTotals(Totals):
    """`events` holds what counts under the name that a correction has to give; the rest of the world is inherited."""

    def __init__(self):
        super().__init__()
        self.corrected = {}
        self.corrections = []

    @rule(data=st.data(), tokens=st.sampled_from(["void", *TOKENS]))
    def correct(self, data, tokens):
        if not self.events:
            return
        name = data.draw(st.sampled_from(sorted(self.events)))
        self.number += 1
        event_id, original = f"e-{self.number}", self.events[name]
        amended = None if tokens == "void" else {"model": f"m-{self.number % 2}", "input_tokens": tokens}
        draft = correction(original.subject, name, NOW, event_id=event_id, data=amended)
        assert [one.verdict for one in offer(draft)] == ["accepted"]
        self.corrections.append(draft)
        self.corrected[name] = self.events.pop(name)
        if amended is not None:
            self.events[event_id] = event(
                original.subject, original.time, event_id=event_id, model=amended["model"], input_tokens=tokens
            )

    @rule(data=st.data())
    def correct_again(self, data):
        if self.corrected:
            name = data.draw(st.sampled_from(sorted(self.corrected)))
            self.number += 1
            verdicts = offer(correction(self.corrected[name].subject, name, NOW, event_id=f"e-{self.number}"))
            assert [one.reason for one in verdicts] == ["already_corrected"]

    @rule()
    def correct_what_never_came(self):
        self.number += 1
        verdicts = offer(correction(self.subjects[0], "never", NOW, event_id=f"e-{self.number}"))
        assert [one.reason for one in verdicts] == ["unknown_original"]

    @rule(data=st.data())
    def send_a_correction_again(self, data):
        if self.corrections:
            [verdict] = offer(data.draw(st.sampled_from(self.corrections)))
            assert verdict.verdict == "duplicate"

    def teardown(self):
        super().teardown()
        assert not UsageInterval.objects.filter(count__lte=0).exists()


def test_any_order_of_corrections_among_everything_else_ends_in_what_events_say(subjects, acme):
    CorrectedTotals.subjects = tuple(subjects)
    CorrectedTotals.organisation = acme
    quick = settings(max_examples=15, stateful_step_count=16, deadline=None, suppress_health_check=list(HealthCheck))
    run_state_machine_as_test(CorrectedTotals, settings=quick)


def side_by_side(*acts):
    failures = []

    def run(act):
        try:
            act()
        except Exception as error:
            failures.append(error)
        finally:
            connection.close()

    threads = [threading.Thread(target=run, args=(act,)) for act in acts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


def test_of_rivals_that_correct_the_same_events_one_wins_each(subjects):
    subject = subjects[0]
    send(*[event(subject, NOW, event_id=f"o-{n}", input_tokens=10) for n in range(20)], now=NOW)
    found = []

    def rival(number):
        order = range(20) if number % 2 else reversed(range(20))
        drafts = [correction(subject, f"o-{n}", NOW, data={"input_tokens": number}) for n in order]
        found.extend(offer(*drafts))

    side_by_side(*[lambda number=number: rival(number) for number in range(4)])
    assert sum(one.verdict == "accepted" for one in found) == Correction.objects.count() == 20
    assert {one.reason for one in found} == {None, "already_corrected"}
    fold_all(NOW)
    assert compare_totals() == []


def test_workers_fold_events_and_corrections_side_by_side(subjects):
    subject = subjects[0]
    for n in range(30):
        time = NOW - timedelta(minutes=n)
        send(event(subject, time, event_id=f"o-{n}", input_tokens=10), now=NOW)
        offer(correction(subject, f"o-{n}", NOW, data=None if n % 2 else {"input_tokens": 3}))

    def fold():
        while fold_pending(now=NOW, limit_events=3).batches:
            pass

    side_by_side(fold, fold, fold)
    fold_all(NOW)
    assert compare_totals() == []
    assert not UsageInterval.objects.filter(count__lte=0).exists()
    tokens = [row.value for row in UsageInterval.objects.filter(series_id__in=series_of("input_tokens"))]
    assert sum(tokens) == 45


def series_of(meter):
    with connection.cursor() as cursor:
        cursor.execute("SELECT s.id FROM series s JOIN metering_meter m ON m.id = s.meter_id WHERE m.key = %s", [meter])
        return [row[0] for row in cursor.fetchall()]
