"""Moving subscribers to another version: previewed, resumable, and nobody is moved twice or against their choice."""

from concurrent.futures import ThreadPoolExecutor

import pytest
import time_machine
from django.core import mail
from django.db import connection, transaction

from billing import catalogue, schedules
from billing.models import PlanMove, PlanMoveRow, PlanVersion, Subscription
from billing.models.plan_moves import MoveRowState, MoveState
from billing.plan_moves import (
    MoveDoesNotFit,
    MoveInPast,
    MoveNotPossible,
    NobodyToMove,
    plan_move,
    set_state,
    work_on_moves,
)
from billing.subscribing import cancel, change_plan
from tests import factories
from tests.billing.billing_builders import LONG_AGO, at, payg, price, subscribed, team, use

pytestmark = pytest.mark.django_db
NOW = at(2026, 11, 22, 18)


@pytest.fixture
def old(db) -> PlanVersion:
    price("input_tokens", "1.00")
    return payg()


@pytest.fixture
def new(old) -> PlanVersion:
    return catalogue.publish_version(catalogue.copy_version(old), now=LONG_AGO)


@pytest.fixture
def three(gus, old) -> list[Subscription]:
    organisations = [factories.organisation(f"Org {number}", gus, slug=f"org-{number}") for number in range(3)]
    return [subscribed(organisation, old, anchor=at(2026, 10)) for organisation in organisations]


def running(move: PlanMove) -> PlanMove:
    return set_state(move, MoveState.RUNNING, now=NOW)


def states(move: PlanMove) -> list[str]:
    return list(move.rows.order_by("pk").values_list("state", flat=True))


def test_planning_changes_nothing_and_says_what_it_would_cost(old, three):
    use(three[0].organisation, at(2026, 10, 5), input_tokens=10_000_000)
    dearer = team("dearer", fee="5", in_advance=False)

    move = plan_move(old, dearer, now=NOW)
    work_on_moves(NOW)

    assert [(row.before_minor, row.after_minor) for row in move.rows.order_by("pk")] == [
        (1000, 1500),
        (0, 500),
        (0, 500),
    ]
    assert all(schedules.pending_phase(subscription, NOW) is None for subscription in three)
    assert states(move) == [MoveRowState.WAITING] * 3


def test_everybody_is_moved_when_their_period_ends(old, new, three):
    move = running(plan_move(old, new, now=NOW))

    work_on_moves(NOW)

    move.refresh_from_db()
    assert (move.state, states(move)) == (MoveState.DONE, [MoveRowState.MOVED] * 3)
    for subscription in three:
        phase = schedules.pending_phase(subscription, NOW)
        assert (phase.plan_version, phase.starts_at) == (new, at(2026, 12))


def test_move_on_a_date_takes_effect_then_or_at_once_where_that_is_past(old, new, three):
    move = running(plan_move(old, new, now=NOW, takes_effect_at=at(2026, 11, 25, 10, 7)))
    work_on_moves(NOW, limit=1)
    assert schedules.pending_phase(three[0], NOW).starts_at == at(2026, 11, 25, 10)

    work_on_moves(at(2026, 11, 26, 8, 5), limit=1)

    assert schedules.phase_at(three[1], at(2026, 11, 26, 9)).starts_at == at(2026, 11, 26, 8)
    assert move.rows.filter(state=MoveRowState.WAITING).count() == 1


def test_pausing_and_cancelling_hold_between_rows(old, new, three):
    move = running(plan_move(old, new, now=NOW))
    work_on_moves(NOW, limit=1)
    set_state(move, MoveState.PAUSED, now=NOW)
    work_on_moves(NOW)
    assert states(move) == [MoveRowState.MOVED, MoveRowState.WAITING, MoveRowState.WAITING]

    running(move)
    work_on_moves(NOW, limit=1)
    set_state(move, MoveState.CANCELLED, now=NOW)
    work_on_moves(NOW)

    assert states(move) == [MoveRowState.MOVED, MoveRowState.MOVED, MoveRowState.WAITING]
    with pytest.raises(MoveNotPossible):
        running(move)


class Killed(Exception):
    pass


def work_and_die() -> None:
    """As far as the end of a row's work, which is never committed."""
    with transaction.atomic():
        work_on_moves(NOW)
        raise Killed


def test_work_that_is_killed_goes_on_where_it_was(old, new, three):
    move = running(plan_move(old, new, now=NOW))
    work_on_moves(NOW, limit=1)

    with pytest.raises(Killed):
        work_and_die()

    assert states(move) == [MoveRowState.MOVED, MoveRowState.WAITING, MoveRowState.WAITING]
    work_on_moves(NOW)
    move.refresh_from_db()
    assert (move.state, states(move)) == (MoveState.DONE, [MoveRowState.MOVED] * 3)
    assert all(subscription.phases.count() == 2 for subscription in three)


def test_who_chose_otherwise_meanwhile_is_left_alone(old, new, three):
    move = running(plan_move(old, new, now=NOW))
    other = team()
    change_plan(three[0], other, now=NOW)
    cancel(three[1], now=NOW)

    work_on_moves(NOW)

    rows = list(move.rows.order_by("pk"))
    assert [row.state for row in rows] == [MoveRowState.SKIPPED, MoveRowState.SKIPPED, MoveRowState.MOVED]
    assert "has chosen one" in rows[0].note
    assert rows[1].note == "It is cancelled."
    assert schedules.pending_phase(three[0], NOW).plan_version == other


def test_customers_are_told_once_where_wanted(old, new, three):
    running(plan_move(old, new, now=NOW, is_announced=True))

    work_on_moves(NOW)
    work_on_moves(NOW)

    assert len(mail.outbox) == 3
    assert mail.outbox[0].subject == "Your plan changes: Payg"


def test_move_must_fit(old, new, three, acme):
    theirs = payg("theirs")
    theirs.plan.organisation = acme
    theirs.plan.save()
    draft = catalogue.copy_version(old)
    for other in (old, draft, payg("euro", currency="EUR"), team("yearly", cadence="year"), theirs):
        with pytest.raises(MoveDoesNotFit):
            plan_move(old, other, now=NOW)
    with pytest.raises(NobodyToMove):
        plan_move(new, old, now=NOW)
    with pytest.raises(MoveInPast):
        plan_move(old, new, now=NOW, takes_effect_at=at(2026, 11, 1))
    assert not PlanMove.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_workers_at_the_same_time_move_everybody_once(old, new, three):
    move = running(plan_move(old, new, now=NOW))

    def work(_: int) -> None:
        try:
            work_on_moves(NOW)
        finally:
            connection.close()

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(4)))

    assert states(move) == [MoveRowState.MOVED] * 3
    assert all(subscription.phases.count() == 2 for subscription in three)


def test_operator_plans_starts_and_pauses_a_move(client_for, operator, old, new, three):
    desk = client_for(operator)
    with time_machine.travel(NOW, tick=False):
        assert desk.get(f"/admin/billing/planversion/{old.pk}/move/").status_code == 200
        desk.post(f"/admin/billing/planversion/{old.pk}/move/", {"to_version": new.pk})
        move = PlanMove.objects.get()
        work_on_moves(NOW)
        page = desk.get(f"/admin/billing/planmove/{move.pk}/change/").content.decode()
        assert "3 waiting" in page
        assert "Start moving?" in desk.get(f"/admin/billing/planmove/{move.pk}/start/").content.decode()
        desk.post(f"/admin/billing/planmove/{move.pk}/start/", {"confirmed": "yes"})
        desk.post(f"/admin/billing/planmove/{move.pk}/hold/", {"confirmed": "yes"})

    move.refresh_from_db()
    assert move.state == MoveState.PAUSED
    assert PlanMoveRow.objects.filter(state=MoveRowState.WAITING).count() == 3
