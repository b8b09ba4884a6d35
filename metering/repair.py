"""Work lists of what was not accepted: replay it, as it is or repaired; dismiss it with a reason.

A replay goes through intake like anything sent, and the row records what became of it. What is refused again, for
another reason or with another body, becomes a row of its own and stays open; so nothing is lost and nothing counts
twice, however often one tries. Every change of state is in the audit log.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby

import msgspec
from django.db import transaction
from django.db.models import Max, QuerySet
from django.http import HttpRequest

from accounts import audit
from accounts.audit import Actor
from accounts.errors import DomainError
from metering.body_repairs import Repair, repaired
from metering.correcting import AMENDMENT
from metering.drafts import Draft, Refusal, body_of
from metering.formats.cloudevents import decode_event
from metering.intake import Verdict, accept
from metering.models import RejectedEvent
from metering.models.events import RejectionReason
from metering.operator_corrections import OPERATORS
from metering.rejections import Rejection

# Rows replayed or dismissed in one step: committed together, and progress is reported after each.
STEP_ROWS = 200
State = RejectedEvent.State


class AlreadySettled(DomainError):
    code = "already_settled"
    sentence = "It was replayed or dismissed already."


class ReasonRequired(DomainError):
    code = "reason_required"
    sentence = "Say why it is dismissed."


@dataclass(frozen=True, slots=True)
class Replay:
    """What became of one replay."""

    verdict: Verdict
    # The row that holds what was refused now, which may be the one that was replayed; None: it was taken.
    open_row: int | None


@dataclass(slots=True)
class Tally:
    """What became of many."""

    accepted: int = 0
    duplicates: int = 0
    # Conflicting or rejected again: still open.
    refused: int = 0

    @property
    def rows(self) -> int:
        return self.accepted + self.duplicates + self.refused

    def add(self, verdict: Verdict) -> None:
        if verdict.verdict == "accepted":
            self.accepted += 1
        elif verdict.verdict == "duplicate":
            self.duplicates += 1
        else:
            self.refused += 1


def replay(
    row: RejectedEvent,
    *,
    now: datetime,
    actor: Actor,
    body: str | None = None,
    backfill: bool = False,
    request: HttpRequest | None = None,
) -> Replay:
    """Send a refused event once more, with another body if one is given. Raises AlreadySettled."""
    if row.state != State.OPEN:
        raise AlreadySettled
    return _replay_step([(row, body)], now=now, actor=actor, backfill=backfill, request=request)[0]


def replay_all(
    rows: "QuerySet[RejectedEvent]",
    *,
    now: datetime,
    actor: Actor,
    backfill: bool = False,
    repairs: Sequence[Repair] = (),
    request: HttpRequest | None = None,
) -> Iterator[Tally]:
    """Send what is open among the rows once more, each once; yields the tally so far after each step.

    `repairs` are made to the bodies before; a body that they do not change is sent as it is.
    """
    tally = Tally()
    for step in _steps(rows):
        pairs = [(row, repaired(row.body, repairs)) for row in step]
        for done in _replay_step(pairs, now=now, actor=actor, backfill=backfill, request=request):
            tally.add(done.verdict)
        yield tally


def dismiss_all(
    rows: "QuerySet[RejectedEvent]", *, reason: str, now: datetime, actor: Actor, request: HttpRequest | None = None
) -> int:
    """Put aside what needs no repair; returns how many rows were open. They stay readable. Raises ReasonRequired."""
    if not reason.strip():
        raise ReasonRequired
    done = 0
    for step in _steps(rows):
        with transaction.atomic():
            done += sum(
                _settle(row, State.DISMISSED, reason.strip(), now=now, actor=actor, request=request) for row in step
            )
    return done


def as_amendment(row: RejectedEvent) -> str:
    """A conflicting body as the amendment that would let it count in place of what was accepted; empty if it cannot."""
    draft = decode_event(row.body.encode())
    if row.reason != RejectionReason.CONFLICT or isinstance(draft, Refusal):
        return ""
    corrects = {"source": draft.source, "id": draft.event_id}
    event = {
        "specversion": "1.0",
        "source": OPERATORS,
        "id": f"amendment-{row.digest[:32]}",
        "type": AMENDMENT,
        "subject": draft.subject,
        "data": {"corrects": corrects, "data": msgspec.Raw(draft.raw_data)},
    }
    return msgspec.json.format(msgspec.json.encode(event), indent=2).decode()


# --- Steps ------------------------------------------------------------------------------------------------------------


def _steps(rows: "QuerySet[RejectedEvent]") -> Iterator[list[RejectedEvent]]:
    """What is open now, by its id: what stays open, or is opened by a replay, is not met again."""
    last, newest = 0, rows.aggregate(Max("pk"))["pk__max"] or 0
    open_rows = rows.select_related("organisation").filter(pk__lte=newest).order_by("pk")
    while step := list(open_rows.filter(state=State.OPEN, pk__gt=last)[:STEP_ROWS]):
        last = step[-1].pk
        yield step


def _replay_step(
    pairs: Sequence[tuple[RejectedEvent, str | None]],
    *,
    now: datetime,
    actor: Actor,
    backfill: bool,
    request: HttpRequest | None,
) -> list[Replay]:
    replays = []
    by_origin = sorted(pairs, key=lambda pair: (pair[0].format, pair[0].service_token_id or 0, pair[0].pk))
    for (format, token_id), group in groupby(by_origin, key=lambda pair: (pair[0].format, pair[0].service_token_id)):
        members = list(group)
        drafts = [_decoded(row, body) for row, body in members]
        verdicts = accept(drafts, format=format, service_token_id=token_id, now=now, backfill=backfill)
        with transaction.atomic():
            for (row, body), draft, verdict in zip(members, drafts, verdicts, strict=True):
                open_row = _record(row, draft, verdict, now=now, actor=actor, request=request, is_edited=bool(body))
                replays.append(Replay(verdict, open_row))
    return replays


def _decoded(row: RejectedEvent, body: str | None) -> Draft | Refusal:
    """The event again. Without a time of its own it happened when it first came in, not now."""
    draft = decode_event((row.body if body is None else body).encode())
    if isinstance(draft, Draft) and draft.time is None:
        return msgspec.structs.replace(draft, time=row.first_seen_at)
    return draft


def _record(
    row: RejectedEvent,
    draft: Draft | Refusal,
    verdict: Verdict,
    *,
    now: datetime,
    actor: Actor,
    request: HttpRequest | None,
    is_edited: bool,
) -> int | None:
    """Write down what a replay came to; returns the row that is open for it, if any."""
    said = verdict.verdict + (f" ({verdict.reason}): {verdict.detail}" if verdict.reason else "")
    if verdict.verdict in {"accepted", "duplicate"}:
        _settle(row, State.REPLAYED, said, now=now, actor=actor, request=request, is_edited=is_edited)
        return None
    kept = _row_of(draft, verdict, now)
    if kept is None or kept == row.pk:
        RejectedEvent.objects.filter(pk=row.pk, state=State.OPEN).update(settlement=said)
        return row.pk
    _settle(row, State.REPLAYED, f"{said} Kept as {kept}.", now=now, actor=actor, request=request, is_edited=is_edited)
    return kept


def _row_of(draft: Draft | Refusal, verdict: Verdict, now: datetime) -> int | None:
    """The row that intake kept for this refusal a moment ago."""
    found = RejectedEvent.objects.filter(
        source=verdict.source, event_id=verdict.event_id, reason=verdict.reason, last_seen_at=now
    )
    body = draft.body if isinstance(draft, Refusal) else body_of(draft)
    text = Rejection(0, None, RejectionReason.CONFLICT, "", "", "", body).text
    return found.filter(body=text).order_by("-pk").values_list("pk", flat=True).first()


def _settle(
    row: RejectedEvent,
    state: str,
    settlement: str,
    *,
    now: datetime,
    actor: Actor,
    request: HttpRequest | None,
    is_edited: bool = False,
) -> bool:
    """Close an open row, once; returns whether it was open."""
    still_open = RejectedEvent.objects.filter(pk=row.pk, state=State.OPEN)
    if not still_open.update(state=state, settled_at=now, settlement=settlement):
        return False
    audit.record(
        f"rejected_event.{state}",
        organisation=row.organisation,
        actor=actor,
        subject_id=str(row.pk),
        subject_label=f"{row.source} {row.event_id}".strip(),
        details={"reason": row.reason, "settlement": settlement[:500]} | ({"edited": True} if is_edited else {}),
        request=request,
    )
    return True
