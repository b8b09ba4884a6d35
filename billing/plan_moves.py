"""Moving subscribers to another version of their plan: planned with a preview, worked off row by row, resumable.

Every row is a transaction of its own, so killing the work at any point loses nothing and moves nobody twice. Pausing
and cancelling hold between rows; what was moved stays moved. Whoever changed their plan meanwhile is left as they are.
"""

import logging
from datetime import datetime

from django.db import transaction
from django.db.models import OuterRef, Subquery
from django.http import HttpRequest

from accounts.audit import Actor, record
from accounts.errors import DomainError
from billing import schedules
from billing.draft_previews import preview_version
from billing.emails import send_plan_move_notice
from billing.models import PlanMove, PlanMoveRow, PlanVersion, Subscription, SubscriptionPhase
from billing.models.plan_moves import MoveRowState, MoveState, MoveTime
from billing.periods import quarter_hour_floor
from billing.subscribing import change_plan, ensure_billing_details

logger = logging.getLogger(__name__)

ROWS_AT_ONCE = 100
# From which states each is reached.
STEPS = {
    MoveState.RUNNING: (MoveState.PLANNED, MoveState.PAUSED),
    MoveState.PAUSED: (MoveState.RUNNING,),
    MoveState.CANCELLED: (MoveState.PLANNED, MoveState.RUNNING, MoveState.PAUSED),
}


class MoveDoesNotFit(DomainError):
    code = "move_does_not_fit"
    sentence = "Both versions must be published, in one currency, billed at one rhythm, and for the same organisations."


class MoveInPast(DomainError):
    code = "move_in_past"
    sentence = "A move takes effect now at the earliest."


class NobodyToMove(DomainError):
    code = "nobody_to_move"
    sentence = "No subscription is on this version."


class MoveNotPossible(DomainError):
    code = "move_not_possible"
    sentence = "That is not possible any more: the move is over."


def plan_move(
    from_version: PlanVersion,
    to_version: PlanVersion,
    *,
    now: datetime,
    takes_effect_at: datetime | None = None,
    is_announced: bool = False,
    actor: Actor = None,
    request: HttpRequest | None = None,
) -> PlanMove:
    """A row for each subscription on the one version, to be moved when its period ends or at an instant. Nothing is
    changed before the move is started. Raises MoveDoesNotFit, MoveInPast and NobodyToMove."""
    _require_fitting(from_version, to_version)
    if takes_effect_at is not None and takes_effect_at < quarter_hour_floor(now):
        raise MoveInPast
    with transaction.atomic():
        move = PlanMove.objects.create(
            from_version=from_version,
            to_version=to_version,
            takes_effect=MoveTime.PERIOD_END if takes_effect_at is None else MoveTime.DATE,
            takes_effect_at=None if takes_effect_at is None else quarter_hour_floor(takes_effect_at),
            is_announced=is_announced,
            created_at=now,
        )
        rows = [
            PlanMoveRow(move=move, organisation_id=organisation_id, subscription_id=pk)
            for pk, organisation_id in _subscribers(from_version, now)
        ]
        if not rows:
            raise NobodyToMove
        PlanMoveRow.objects.bulk_create(rows)
        _record("plan_move.planned", move, actor=actor, request=request)
    return move


def set_state(
    move: PlanMove, state: MoveState, *, now: datetime, actor: Actor = None, request: HttpRequest | None = None
) -> PlanMove:
    """Start it, pause it, go on with it, or cancel what is left of it. Raises MoveNotPossible."""
    with transaction.atomic():
        locked = PlanMove.objects.select_for_update(of=("self",)).select_related("from_version", "to_version")
        row = locked.get(pk=move.pk)
        if row.state not in STEPS[state]:
            raise MoveNotPossible
        row.state = state
        row.started_at = row.started_at or (now if state == MoveState.RUNNING else None)
        row.finished_at = now if state == MoveState.CANCELLED else None
        row.save(update_fields=["state", "started_at", "finished_at"])
        _record(f"plan_move.{state}", row, actor=actor, request=request)
    return row


def work_on_moves(now: datetime, *, limit: int = ROWS_AT_ONCE) -> int:
    """Preview what is planned, move what is waiting, tell who was moved; how many rows were touched."""
    return _preview_rows(now, limit) + _move_rows(now, limit) + _announce_rows(now, limit)


def _require_fitting(one: PlanVersion, other: PlanVersion) -> None:
    same_terms = (one.currency, one.cadence) == (other.currency, other.cadence)
    is_for_all = other.plan.organisation_id in {None, one.plan.organisation_id}
    is_published = None not in (one.published_at, other.published_at) and other.plan.archived_at is None
    if one == other or not (same_terms and is_for_all and is_published):
        raise MoveDoesNotFit


def _subscribers(version: PlanVersion, now: datetime) -> list[tuple[int, int]]:
    """Primary keys of subscriptions on the version, and of their organisations."""
    newest = SubscriptionPhase.objects.filter(subscription=OuterRef("pk"), starts_at__lte=now).order_by("-starts_at")
    rows = Subscription.objects.current().annotate(holds=Subquery(newest.values("plan_version")[:1]))
    return list(rows.filter(holds=version.pk).order_by("pk").values_list("pk", "organisation_id"))


def _preview_rows(now: datetime, limit: int) -> int:
    waiting = PlanMoveRow.objects.filter(previewed_at=None, move__state__in=(MoveState.PLANNED, MoveState.RUNNING))
    rows = waiting.select_related("move__to_version__plan", "subscription__organisation").order_by("pk")[:limit]
    for row in list(rows):
        try:
            periods = preview_version(row.subscription, row.move.to_version, now)
        except DomainError as error:
            logger.warning("The preview of moving %s failed: %s", row.subscription.public_id, error.sentence)
            periods = []
        if periods:
            row.before_minor, row.after_minor = periods[0].did_cost_minor, periods[0].would_cost_minor
        row.previewed_at = now
        row.save(update_fields=["before_minor", "after_minor", "previewed_at"])
    return len(rows)


def _move_rows(now: datetime, limit: int) -> int:
    waiting = PlanMoveRow.objects.filter(state=MoveRowState.WAITING, move__state=MoveState.RUNNING)
    moved = sum(_move_row(pk, now) for pk in list(waiting.order_by("pk").values_list("pk", flat=True)[:limit]))
    unfinished = PlanMoveRow.objects.filter(state=MoveRowState.WAITING).values("move")
    finished = PlanMove.objects.filter(state=MoveState.RUNNING).exclude(pk__in=unfinished)
    finished.update(state=MoveState.DONE, finished_at=now)
    return moved


def _move_row(pk: int, now: datetime) -> bool:
    """One row in one transaction; False where another worker has it or the move no longer runs."""
    with transaction.atomic():
        rows = PlanMoveRow.objects.select_for_update(of=("self",), skip_locked=True)
        row = (
            rows.filter(pk=pk, state=MoveRowState.WAITING, move__state=MoveState.RUNNING)
            .select_related("move__from_version", "move__to_version__plan", "subscription__organisation")
            .first()
        )
        if row is None:
            return False
        try:
            with transaction.atomic():
                _change(row, now)
        except DomainError as error:
            row.state, row.note = MoveRowState.SKIPPED, error.sentence[:300]
        else:
            row.state, row.moved_at = MoveRowState.MOVED, now
        row.save(update_fields=["state", "note", "moved_at"])
    return True


class ChangedMeanwhile(DomainError):
    code = "changed_meanwhile"
    sentence = "It is on another version by now, or has chosen one."


class Ending(DomainError):
    code = "ending"
    sentence = "It is cancelled."


def _change(row: PlanMoveRow, now: datetime) -> None:
    subscription, move = row.subscription, row.move
    if subscription.ends_at is not None:
        raise Ending
    has_chosen = schedules.pending_phase(subscription, now) is not None
    if has_chosen or schedules.version_at(subscription, now) != move.from_version:
        raise ChangedMeanwhile
    change_plan(subscription, move.to_version, now=now, on=move.takes_effect_at, actor="plan move")


def _announce_rows(now: datetime, limit: int) -> int:
    due = PlanMoveRow.objects.filter(state=MoveRowState.MOVED, move__is_announced=True, announced_at=None)
    return sum(_announce(pk, now) for pk in list(due.order_by("pk").values_list("pk", flat=True)[:limit]))


def _announce(pk: int, now: datetime) -> bool:
    """Claimed before it is sent, and given back where the mail server does not take it."""
    if not PlanMoveRow.objects.filter(pk=pk, announced_at=None).update(announced_at=now):
        return False
    row = PlanMoveRow.objects.select_related("move__to_version__plan", "subscription__organisation").get(pk=pk)
    phase = schedules.pending_phase(row.subscription, now)
    starts_at = phase.starts_at if phase else schedules.phase_at(row.subscription, now).starts_at
    address = ensure_billing_details(row.organisation).email
    try:
        send_plan_move_notice(row.subscription, row.move.to_version.plan, starts_at, address)
    except OSError as error:
        logger.warning("The notice to %s was not taken: %s", row.subscription.public_id, error)
        PlanMoveRow.objects.filter(pk=pk, announced_at=now).update(announced_at=None)
        return False
    return True


def _record(action: str, move: PlanMove, *, actor: Actor, request: HttpRequest | None) -> None:
    record(
        action,
        organisation=None,
        actor=actor,
        subject_id=move.public_id,
        subject_label=str(move),
        details={"takes_effect": move.takes_effect, "rows": move.rows.count()},
        request=request,
    )
