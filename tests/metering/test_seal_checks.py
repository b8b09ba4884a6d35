"""Every way of tampering is found, and the day and the event are named."""

from datetime import date

import pytest

from metering.canonical import seal_digest
from metering.leaves import TILE_LEAVES
from metering.models import Seal
from metering.seal_checks import check_seals
from tests.metering.sealed_world import at, receive, seal, unguarded

pytestmark = pytest.mark.django_db
NOW = at(15)


@pytest.fixture
def sealed(acme):
    """Three sealed days: a handful of events, more than two tiles of them, and one."""
    receive(acme, 10, 1, 2, 3)
    receive(acme, 11, *range(1000, 1000 + 2 * TILE_LEAVES + 9))
    receive(acme, 13, 4)
    return seal(at(14))


def found(organisation, **options):
    return [
        (one.code, one.day and one.day.day, one.event_id)
        for one in check_seals(organisation, now=NOW, **options).findings
    ]


def tamper(statement, *params):
    with unguarded() as cursor:
        cursor.execute(statement, params)
        assert cursor.rowcount


def test_untouched_events_agree(acme, sealed):
    checked = check_seals(acme, now=NOW)
    assert checked.findings == []
    assert (checked.seals, checked.days, checked.events) == (3, 3, 4 + 2 * TILE_LEAVES + 9)
    assert checked.head == sealed[-1].digest


@pytest.mark.parametrize("event_id", ["e-2", "e-1000", "e-1130", "e-1264"])
@pytest.mark.parametrize(
    "change",
    [
        "data = jsonb_set(data, '{input_tokens}', '7777')",
        "data = data || '{\"note\": null}'",
        "time = time + interval '1 microsecond'",
        "subject = 'org_other'",
        "type = 'other'",
        "time_assumed = true",
    ],
)
def test_a_changed_event_is_named_with_its_day(acme, sealed, change, event_id):
    day = 10 if event_id == "e-2" else 11
    tamper(f"UPDATE event SET {change} WHERE event_id = %s", event_id)
    assert found(acme) == [("root_wrong", day, ""), ("event_changed", day, event_id)]


def test_an_event_put_in_afterwards_is_named(acme, sealed):
    columns = "organisation_id, batch_id, time, project_id, receipt_month, time_assumed, source, type, subject, data"
    tamper(
        f"INSERT INTO event ({columns}, key, event_id) "
        f"SELECT {columns}, md5('e-x')::uuid, 'e-x' FROM event WHERE event_id = 'e-2'"
    )
    assert found(acme) == [("root_wrong", 10, ""), ("event_added", 10, "e-x")]


def test_an_event_taken_away_is_noticed(acme, sealed):
    tamper("DELETE FROM event WHERE event_id = 'e-1130'")
    assert found(acme) == [("root_wrong", 11, ""), ("event_gone", 11, "")]


def test_an_event_moved_to_another_day_is_named_on_both(acme, sealed):
    tamper("UPDATE event SET batch_id = (SELECT batch_id FROM event WHERE event_id = 'e-4') WHERE event_id = 'e-2'")
    assert found(acme) == [
        ("root_wrong", 10, ""),
        ("event_gone", 10, ""),
        ("root_wrong", 13, ""),
        ("event_added", 13, "e-2"),
    ]


def test_a_whole_day_taken_away_is_noticed(acme, sealed):
    tamper("DELETE FROM event WHERE event_id = 'e-4'")
    tamper("DELETE FROM ingest_batch WHERE event_count = 1")
    assert found(acme) == [("root_wrong", 13, ""), ("event_gone", 13, "")]


def test_an_event_without_batch_is_named(acme, sealed):
    tamper("UPDATE event SET batch_id = 0 WHERE event_id = 'e-2'")
    assert ("no_batch", None, "e-2") in found(acme)


def test_hints_that_were_changed_along_do_not_hide_the_event(acme, sealed):
    tamper("UPDATE event SET type = 'other' WHERE event_id = 'e-2'")
    tamper("DELETE FROM metering_sealtile WHERE seal_id = %s", sealed[0].pk)
    assert found(acme) == [("root_wrong", 10, ""), ("tiles_missing", 10, "")]


def test_a_seal_that_was_rewritten_breaks_the_chain_after_it(acme, sealed):
    first, root = sealed[0], "ab" * 32
    digest = seal_digest(acme.public_id, first.day, first.event_count, root, first.previous_digest)
    tamper("UPDATE metering_seal SET root = %s WHERE id = %s", root, first.pk)
    assert ("digest_wrong", 10, "") in found(acme)
    tamper("UPDATE metering_seal SET digest = %s WHERE id = %s", digest, first.pk)
    assert ("chain_broken", 11, "") in found(acme)
    assert ("digest_wrong", 10, "") not in found(acme)


def test_newest_seals_taken_away_are_missed_while_their_batches_are_there(acme, sealed):
    cut_off(sealed[-1])
    assert found(acme) == [("seal_missing", 13, "")]


def test_newest_days_taken_away_whole_are_missed_by_whoever_noted_the_head(acme, sealed):
    cut_off(sealed[-1])
    tamper("DELETE FROM event WHERE event_id = 'e-4'")
    tamper("DELETE FROM ingest_batch WHERE event_count = 1")
    assert found(acme) == []
    assert found(acme, heads=[sealed[-1].digest]) == [("head_missing", None, "")]
    assert found(acme, heads=[sealed[0].digest]) == []


def test_a_seal_taken_out_of_the_middle_is_missed(acme, sealed):
    cut_off(sealed[1])
    assert found(acme) == [("chain_broken", 13, ""), ("seal_missing", 11, "")]


def test_days_not_asked_for_are_left_alone(acme, sealed):
    tamper("UPDATE event SET type = 'other' WHERE event_id = 'e-2'")
    assert found(acme, first=date(2026, 11, 11)) == []
    assert found(acme, last=date(2026, 11, 10)) != []


def test_a_day_too_recent_to_be_sealed_is_no_finding(acme):
    receive(acme, 14, 1)
    assert check_seals(acme, now=at(15, 5)).findings == []
    assert [one.code for one in check_seals(acme, now=at(15, 7)).findings] == ["seal_missing"]


def test_months_that_were_dropped_are_left_out_and_counted(acme, sealed):
    with unguarded() as cursor:
        cursor.execute("ALTER TABLE event DETACH PARTITION event_2026_11")
    checked = check_seals(acme, now=NOW)
    assert (checked.findings, checked.days, checked.days_dropped) == ([], 0, 3)


def test_another_organisation_is_not_looked_at(acme, globex, sealed):
    receive(globex, 10, 1)
    [other] = seal(at(14))
    tamper("UPDATE event SET type = 'other' WHERE organisation_id = %s", acme.pk)
    assert found(globex) == []
    assert Seal.objects.for_organisation(globex).get() == other


def cut_off(seal):
    with unguarded() as cursor:
        cursor.execute("DELETE FROM metering_sealtile WHERE seal_id = %s", [seal.pk])
        cursor.execute("DELETE FROM metering_seal WHERE id = %s", [seal.pk])
