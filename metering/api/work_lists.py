"""Work lists: what was refused and what no meter reads; replayed, repaired or dismissed, one or many.

A service token sees everything, refusals that are nobody's too; an organisation's access token its own. Changing
anything is for service tokens, since it puts usage on bills. Doing the same again changes nothing.
"""

from dataclasses import asdict
from typing import Any

from django.db.models import QuerySet
from django.utils import timezone
from drf_spectacular.utils import extend_schema
from rest_framework.generics import GenericAPIView
from rest_framework.request import Request
from rest_framework.response import Response

from accounts.api_auth import caller_of, resolve_organisation
from accounts.api_bodies import validated
from accounts.api_pages import CursorPagination
from accounts.errors import DomainError
from accounts.models import Organisation, Scope
from accounts.problems import Problem
from metering.api import work_lists_schema
from metering.api.taking import hint_folding, service_token_of
from metering.api.work_list_parts import (
    BulkDismissalInput,
    BulkReplayInput,
    CountsInput,
    DismissalInput,
    ExactJsonParser,
    FilterInput,
    RejectedEventOutput,
    ReplayInput,
    WholeRejectedEventOutput,
)
from metering.body_repairs import repaired
from metering.models import RejectedEvent
from metering.repair import STEP_ROWS, AlreadySettled, Replay, Tally, dismiss_all, replay, replay_all
from metering.reports import work_lists
from metering.reports.unmatched import Unmatched, unmatched_types

# Rows that one request replays or dismisses; the answer says where to go on.
MOST_AT_ONCE = 5 * STEP_ROWS
# Bodies before and after, shown by a dry run.
EXAMPLES = 5

type Rows = QuerySet[RejectedEvent]


class ByDigest(CursorPagination):
    """For rows whose public id is made from their digest."""

    def rows_named(self, rows: Any, cursor: str) -> Any:
        return rows.with_public_id(cursor)


class WorkList(GenericAPIView):
    required_scopes: Any = {"GET": Scope.USAGE_READ, "POST": Scope.EVENTS_WRITE}
    pagination_class: Any = None
    parser_classes = (ExactJsonParser,)
    queryset: Rows = RejectedEvent.objects.none()

    def rows_of(self, request: Request) -> Rows:
        """What the caller may see at all."""
        rows = RejectedEvent.objects.select_related("organisation")
        organisation = _organisation_of(request)
        return rows if organisation is None else rows.filter(organisation=organisation)

    def one(self, request: Request, public_id: str) -> RejectedEvent:
        row = self.rows_of(request).with_public_id(public_id).first()  # type: ignore[attr-defined]
        if row is None or not public_id.startswith(RejectedEvent.ID_PREFIX):
            raise Problem(404, "not_found", "There is no such rejected event.")
        return row


class RejectedEvents(WorkList):
    serializer_class = RejectedEventOutput
    pagination_class = ByDigest

    @extend_schema(**work_lists_schema.LIST)
    def get(self, request: Request) -> Response:
        wanted = _valid(FilterInput(data=request.query_params))
        wanted.pop("organisation", None)
        rows = self.paginate_queryset(filtered(self.rows_of(request), wanted).defer("body"))
        return self.get_paginated_response(RejectedEventOutput(rows, many=True).data)


class OneRejectedEvent(WorkList):
    @extend_schema(**work_lists_schema.GET)
    def get(self, request: Request, public_id: str) -> Response:
        return Response(WholeRejectedEventOutput(self.one(request, public_id)).data)


class Counts(WorkList):
    @extend_schema(**work_lists_schema.COUNTS)
    def get(self, request: Request) -> Response:
        wanted = _valid(CountsInput(data=request.query_params))
        days, refused = work_lists.refused_per_day(
            timezone.now(), days=wanted["days"], organisation=_organisation_of(request)
        )
        return Response({"days": [str(day) for day in days], "reasons": [asdict(one) for one in refused]})


class UnmatchedEvents(WorkList):
    @extend_schema(**work_lists_schema.UNMATCHED)
    def get(self, request: Request) -> Response:
        wanted = _valid(CountsInput(data=request.query_params))
        days, types = unmatched_types(timezone.now(), days=wanted["days"], organisation=_organisation_of(request))
        items = [_unmatched_facts(one) for one in types]
        return Response({"days": [str(day) for day in days], "items": items})


class Replays(WorkList):
    """One refused event once more."""

    @extend_schema(**work_lists_schema.REPLAY)
    def post(self, request: Request, rejected_id: str) -> Response:
        service_token_of(request)
        row, values = self.one(request, rejected_id), validated(ReplayInput, request)
        if row.state == RejectedEvent.State.REPLAYED:
            return Response(_replay_facts(row, None))
        body = values["event"] if values["event"] is not None else repaired(row.body, values["repairs"])
        try:
            done = replay(
                row,
                now=timezone.now(),
                actor=caller_of(request).label,
                body=body,
                backfill=values["backfill"],
                request=request._request,
            )
        except AlreadySettled as error:
            raise _settled_otherwise(row) from error
        hint_folding()
        return Response(_replay_facts(row, done))


class Dismissals(WorkList):
    """One refused event put aside."""

    @extend_schema(**work_lists_schema.DISMISS)
    def post(self, request: Request, rejected_id: str) -> Response:
        service_token_of(request)
        row, values = self.one(request, rejected_id), validated(DismissalInput, request)
        if row.state == RejectedEvent.State.REPLAYED:
            raise _settled_otherwise(row)
        _dismiss(request, RejectedEvent.objects.filter(pk=row.pk), values["reason"])
        row.refresh_from_db()
        return Response(WholeRejectedEventOutput(row).data)


class BulkReplays(WorkList):
    """Refused events that a filter chooses, once more."""

    @extend_schema(**work_lists_schema.REPLAY_MANY)
    def post(self, request: Request) -> Response:
        service_token_of(request)
        values = validated(BulkReplayInput, request)
        rows, repairs = chosen(values), values["repairs"]
        matching = rows.count()
        if values["dry_run"]:
            return Response({"dry_run": True, "matching": matching, **_preview(rows, repairs)})
        step = _first(rows)
        replaying = replay_all(
            RejectedEvent.objects.filter(pk__in=[row.pk for row in step]),
            now=timezone.now(),
            actor=caller_of(request).label,
            backfill=values["backfill"],
            repairs=repairs,
            request=request._request,
        )
        *_, tally = Tally(), *replaying
        hint_folding()
        done = {"accepted": tally.accepted, "duplicates": tally.duplicates, "refused": tally.refused}
        return Response({"dry_run": False, "matching": matching, **done, "next": _next(step, matching)})


class BulkDismissals(WorkList):
    """Refused events that a filter chooses, put aside."""

    @extend_schema(**work_lists_schema.DISMISS_MANY)
    def post(self, request: Request) -> Response:
        service_token_of(request)
        values = validated(BulkDismissalInput, request)
        rows = chosen(values)
        matching = rows.count()
        if values["dry_run"]:
            return Response({"dry_run": True, "matching": matching})
        step = _first(rows)
        these = RejectedEvent.objects.filter(pk__in=[row.pk for row in step])
        done = _dismiss(request, these, values["reason"])
        return Response({"dry_run": False, "matching": matching, "dismissed": done, "next": _next(step, matching)})


def chosen(values: dict[str, Any]) -> Rows:
    """The open rows that a request over many means, from where it goes on."""
    rows = filtered(RejectedEvent.objects.select_related("organisation"), values["filter"])
    after = _pk_of(RejectedEvent.objects.all(), values["after"]) if values["after"] else 0
    return rows.filter(state=RejectedEvent.State.OPEN, pk__gt=after)


def filtered(rows: Rows, wanted: dict[str, Any]) -> Rows:
    """The rows that a filter names; what it leaves out is any."""
    equal = {"reason": "reason", "source": "source", "id": "event_id", "state": "state"}
    found = rows.filter(**{field: wanted[name] for name, field in equal.items() if name in wanted})
    if "since" in wanted:
        found = found.filter(last_seen_at__gte=wanted["since"])
    if "until" in wanted:
        found = found.filter(last_seen_at__lt=wanted["until"])
    if "organisation" in wanted:
        organisation = Organisation.objects.named(wanted["organisation"]).first()
        if organisation is None:
            raise Problem(404, "unknown_organisation", "There is no such organisation.")
        found = found.filter(organisation=organisation)
    return found


def _organisation_of(request: Request) -> Organisation | None:
    """The organisation that a request is about; None: a service token that names none asks about all."""
    caller = caller_of(request)
    if caller.organisation is None and not request.query_params.get("organisation"):
        return None
    return resolve_organisation(request)


def _valid(serializer: Any) -> dict[str, Any]:
    serializer.is_valid(raise_exception=True)
    values: dict[str, Any] = serializer.validated_data
    return dict(values)


def _pk_of(rows: Rows, public_id: str) -> int:
    found = rows.with_public_id(public_id).values_list("pk", flat=True).first()  # type: ignore[attr-defined]
    if found is None:
        raise Problem(400, "invalid_cursor", "That cursor does not belong to this list.")
    pk: int = found
    return pk


def _first(rows: Rows) -> list[RejectedEvent]:
    return list(rows.order_by("pk").defer("body")[:MOST_AT_ONCE])


def _next(step: list[RejectedEvent], matching: int) -> str | None:
    """Where to go on; None: that was all."""
    return step[-1].public_id if len(step) < matching else None


def _preview(rows: Rows, repairs: Any) -> dict[str, Any]:
    """What repairs would change among the first of the rows."""
    looked_at = rows.order_by("pk")[:MOST_AT_ONCE]
    changes = [(row, after) for row in looked_at if (after := repaired(row.body, repairs)) is not None]
    examples = [{"id": row.public_id, "before": row.body, "after": after} for row, after in changes[:EXAMPLES]]
    return {"looked_at": min(rows.count(), MOST_AT_ONCE), "would_change": len(changes), "examples": examples}


def _dismiss(request: Request, rows: Rows, reason: str) -> int:
    actor = caller_of(request).label
    return dismiss_all(rows, reason=reason, now=timezone.now(), actor=actor, request=request._request)


def _replay_facts(row: RejectedEvent, done: Replay | None) -> dict[str, Any]:
    """The row as it is now, the verdict of this replay, and the row that is open for what was refused now."""
    row.refresh_from_db()
    still_open = done and done.open_row and RejectedEvent.objects.filter(pk=done.open_row).first()
    said = done.verdict if done else None
    return {
        "event": WholeRejectedEventOutput(row).data,
        "verdict": said and {name: getattr(said, name) for name in ("verdict", "meters", "reason", "detail")},
        "open": still_open.public_id if still_open else None,
    }


def _settled_otherwise(row: RejectedEvent) -> DomainError:
    refusal = AlreadySettled(f"It was {row.state} already.")
    refusal.status = 409
    return refusal


def _unmatched_facts(one: Unmatched) -> dict[str, Any]:
    return {
        "organisation": one.organisation_id,
        "type": one.type,
        "is_read": one.is_read,
        "count": one.count,
        "counts": list(one.counts),
        "last_time": one.last_time,
        "example": {"source": one.example[0], "id": one.example[1]},
    }
