"""What was refused is replayed, repaired or dismissed, and nothing is lost or counted twice."""

import json
from datetime import timedelta
from decimal import Decimal

import pytest
from django.core.management import call_command

from accounts.models import AuditEntry
from metering import repair
from metering.aggregation import compare_totals
from metering.drafts import Refusal
from metering.models import Event, Meter, RejectedEvent
from metering.operator_corrections import amend_event, differences, void_event
from metering.repair import AlreadySettled, ReasonRequired, as_amendment, dismiss_all, replay, replay_all
from tests import factories
from tests.metering.conftest import NOW, take
from tests.metering.usage_world import correction, fold_all

pytestmark = pytest.mark.django_db

LATER = NOW + timedelta(hours=1)


def rows():
    return RejectedEvent.objects.order_by("pk")


def again(row, **options):
    return replay(row, now=LATER, actor="test", **options)


def edited(row, **data):
    event = json.loads(row.body)
    event["data"] |= data
    return json.dumps(event)


def test_an_event_counts_once_the_cause_is_gone(draft, acme):
    take(draft("1", input_tokens="many"))
    [row] = rows()
    done = again(row, body=edited(row, input_tokens=5))
    assert (done.verdict.verdict, done.verdict.meters, done.open_row) == (
        "accepted",
        ("input_tokens", "requests"),
        None,
    )
    row.refresh_from_db()
    assert (row.state, row.settled_at, row.settlement) == ("replayed", LATER, "accepted")
    entry = AuditEntry.objects.get(action="rejected_event.replayed")
    assert (entry.organisation, entry.actor_label, entry.subject_id) == (acme, "test", str(row.pk))
    assert entry.details["edited"] is True
    with pytest.raises(AlreadySettled):
        again(row)
    assert Event.objects.count() == 1


def test_unchanged_it_stays_open_and_says_what_the_replay_came_to(draft):
    take(draft("1", input_tokens="many"))
    [row] = rows()
    done = again(row)
    row.refresh_from_db()
    assert (done.open_row, row.state, row.seen_count) == (row.pk, "open", 2)
    assert row.settlement.startswith("rejected (invalid_value)")
    assert rows().count() == 1


def test_a_repair_that_is_refused_for_another_reason_is_kept_in_its_place(draft):
    take(draft("1", input_tokens="many"))
    [row] = rows()
    old = json.loads(edited(row, input_tokens=5)) | {"time": "2020-01-01T00:00:00Z"}
    done = again(row, body=json.dumps(old))
    first, second = rows()
    assert (done.verdict.reason, done.open_row) == ("too_old", second.pk)
    assert (first.state, second.state, second.reason) == ("replayed", "open", "too_old")
    assert first.settlement.endswith(f"Kept as {second.pk}.")


def test_a_body_that_is_no_event_is_refused_and_nothing_is_lost(draft):
    take(draft("1", input_tokens="many"))
    [row] = rows()
    done = again(row, body="{not json")
    assert done.verdict.reason == "invalid_event"
    assert {one.state for one in rows()} == {"replayed", "open"}
    assert rows().get(state="open").body == "{not json"


def test_a_replay_that_was_cut_off_after_the_commit_is_finished_by_the_next(draft):
    take(draft("1", input_tokens="many"))
    [row] = rows()
    body = edited(row, input_tokens=5)
    again(row, body=body)
    RejectedEvent.objects.update(state="open", settled_at=None)
    row.refresh_from_db()
    assert again(row, body=body).verdict.verdict == "duplicate"
    row.refresh_from_db()
    assert (row.state, row.settlement) == ("replayed", "duplicate")


def test_an_event_without_a_time_happened_when_it_first_came_in(draft):
    take(draft("1", time=None, input_tokens="many"))
    [row] = rows()
    again(row, body=edited(row, input_tokens=5))
    assert Event.objects.get().time == NOW
    assert take(draft("1", time=None, input_tokens=5), now=LATER)[0].verdict == "duplicate"


def test_too_old_is_taken_by_a_backfill(draft):
    take(draft("1", time=NOW - timedelta(days=400)))
    [row] = rows()
    assert again(row).verdict.reason == "too_old"
    assert again(row, backfill=True).verdict.verdict == "accepted"


def test_a_key_that_exists_by_now_is_found_in_bulk(draft, acme, monkeypatch):
    monkeypatch.setattr(repair, "STEP_ROWS", 3)
    key = factories.api_key(acme, "New").api_key
    id_to_be, key.public_id = key.public_id, "key_other"
    key.save()
    take(*[draft(str(n), subject=id_to_be, input_tokens=1) for n in range(8)], draft("bad", input_tokens="x"))
    assert rows().filter(reason="unknown_subject", organisation=None).count() == 8
    key.public_id = id_to_be
    key.save()
    tallies = [tally.rows for tally in replay_all(rows(), now=NOW + timedelta(minutes=2), actor="test")]
    assert tallies == [3, 6, 9]
    assert rows().filter(state="replayed", settlement="accepted").count() == 8
    assert rows().filter(state="open").get().event_id == "bad"
    assert list(replay_all(rows().filter(state="replayed"), now=LATER, actor="test")) == []
    assert Event.objects.count() == 8


def test_what_a_replay_opens_is_not_replayed_by_the_same_round(draft, monkeypatch):
    monkeypatch.setattr(repair, "STEP_ROWS", 1)
    take(*[draft(str(n), time=NOW - timedelta(days=34), input_tokens="x") for n in range(3)])
    much_later = NOW + timedelta(days=5)
    [*_, tally] = replay_all(rows(), now=much_later, actor="test")
    assert (tally.rows, tally.refused) == (3, 3)
    assert [row.seen_count for row in rows().filter(state="open")] == [1, 1, 1]


def test_the_command_replays_what_it_is_told_to(draft, acme, capsys):
    take(draft("1", time=NOW - timedelta(days=400), input_tokens=1), draft("2", input_tokens="x"))
    call_command("replay_rejected", "--reason", "too_old", "--organisation", "acme", "--backfill", "--json")
    assert json.loads(capsys.readouterr().out) == {"replayed": 1, "accepted": 1, "duplicates": 0, "still_refused": 0}
    since = ["--since", (NOW + timedelta(days=1)).isoformat(), "--until", (NOW + timedelta(days=2)).isoformat()]
    call_command("replay_rejected", *since, "--json")
    assert json.loads(capsys.readouterr().out)["replayed"] == 0
    assert rows().get(state="open").event_id == "2"


def test_a_correction_that_came_first_is_replayed(draft, acme, acme_key):
    take(correction(acme_key.api_key.public_id, "1", NOW, event_id="v"))
    take(draft("1", input_tokens=5))
    for _ in replay_all(rows(), now=LATER, actor="test"):
        pass
    assert rows().get().state == "replayed"
    fold_all(LATER)
    assert compare_totals() == []


def test_dismissing_needs_a_reason_and_is_audited(draft, acme):
    take(draft("1", input_tokens="x"), draft("2", input_tokens="y"))
    with pytest.raises(ReasonRequired):
        dismiss_all(rows(), reason=" ", now=LATER, actor="test")
    assert dismiss_all(rows(), reason="Test traffic", now=LATER, actor="test") == 2
    assert dismiss_all(rows(), reason="Test traffic", now=LATER, actor="test") == 0
    assert {(row.state, row.settled_at, row.settlement) for row in rows()} == {("dismissed", LATER, "Test traffic")}
    entries = AuditEntry.objects.filter(action="rejected_event.dismissed")
    assert [(one.organisation, one.details["settlement"]) for one in entries] == [(acme, "Test traffic")] * 2


def test_a_conflict_is_offered_as_the_amendment_it_may_be(draft):
    take(draft("1", input_tokens=5))
    take(draft("1", input_tokens=7, output_tokens="0.10"))
    [row] = rows()
    assert again(row, body=as_amendment(row)).verdict.verdict == "accepted"
    fold_all(LATER)
    assert compare_totals() == []
    data = Event.objects.get(type="kilotoken.amendment").data
    assert data == {
        "corrects": {"source": "gateway", "id": "1"},
        "data": {"model": "m-1", "input_tokens": 7, "output_tokens": "0.10"},
    }


def test_only_conflicts_are_offered_as_amendments(draft):
    take(draft("1", input_tokens="x"), Refusal("invalid_event", "No JSON.", b"{"))
    assert [as_amendment(row) for row in rows()] == ["", ""]


def test_an_operators_void_counts_once_and_is_audited(draft, acme, operator):
    take(draft("1", input_tokens=5))

    def void():
        return void_event(acme, source="gateway", event_id="1", reason="Sent by mistake", now=LATER, actor=operator)

    assert [void().verdict, void().verdict] == ["accepted", "duplicate"]
    entry = AuditEntry.objects.get(action="event.voided")
    assert (entry.organisation, entry.actor, entry.details["reason"]) == (acme, operator, "Sent by mistake")
    fold_all(LATER)
    assert compare_totals() == []
    assert Meter.objects.exists()


def test_a_void_of_nothing_is_refused_and_says_why(acme):
    verdict = void_event(acme, source="gateway", event_id="1", reason="", now=LATER, actor="test")
    assert verdict.reason == "unknown_original"
    assert AuditEntry.objects.filter(action="event.void_refused").count() == 1


def test_an_operators_amendment_counts_in_place_of_the_original_and_is_audited(draft, acme, operator):
    take(draft("1", input_tokens=5, output_tokens=2))
    data = {"model": "m-1", "input_tokens": Decimal("4.5")}
    found = differences(acme, source="gateway", event_id="1", data=data)
    assert [(one.meter, one.before, one.after) for one in found] == [
        ("input_tokens", "5", "4.5"),
        ("output_tokens", "2", None),
    ]

    def amend():
        named = {"source": "gateway", "event_id": "1"}
        return amend_event(acme, **named, data=data, reason="Miscounted", now=LATER, actor=operator)

    assert [amend().verdict, amend().verdict] == ["accepted", "duplicate"]
    assert AuditEntry.objects.get(action="event.amended").details["reason"] == "Miscounted"
    fold_all(LATER)
    assert compare_totals() == []


def test_the_command_repairs_before_it_replays(draft):
    take(*[draft(str(n), input_tokens="x", model="gpt5") for n in range(2)])
    call_command(
        "replay_rejected", "--set", "data.input_tokens", "5", "--replace", "data.model", "gpt5", "gpt-5", "--json"
    )
    assert [row.state for row in rows()] == ["replayed", "replayed"]
    assert {(one.data["input_tokens"], one.data["model"]) for one in Event.objects.all()} == {(5, "gpt-5")}
