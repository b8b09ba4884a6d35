"""POST /v1/events: usage in, a verdict per event out, after the commit.

Senders lose what is refused, so the answer is 200 for everything that could be kept, and never 429.
"""

import time
from collections.abc import Iterable, Iterator
from itertools import batched
from typing import Any

import msgspec
from django.conf import settings
from django.db import OperationalError
from django.http import HttpResponse
from django.utils import timezone
from drf_spectacular.utils import extend_schema
from rest_framework.renderers import BaseRenderer, JSONRenderer
from rest_framework.request import Request
from rest_framework.views import APIView

from accounts.enqueue import enqueue_on_commit
from accounts.models import Scope, ServiceToken
from accounts.problems import Problem
from metering.api import events_schema
from metering.api.bodies import read_chunks, read_whole
from metering.formats import cloudevents, ndjson
from metering.intake import Draft, Refusal, Verdict, accept
from metering.tasks import fold_pending_batches

# Events committed together.
COMMIT_EVENTS = 1000
# Verdicts listed in one answer; past it only those that are neither accepted nor duplicates, and as many again.
LISTED_EVENTS = 10_000
# Folding also runs by itself every few seconds; one hint a second per process is enough.
HINT_SECONDS = 1.0


class Reply(msgspec.Struct):
    """The body of the answer."""

    accepted: int = 0
    duplicates: int = 0
    conflicts: int = 0
    rejected: int = 0
    # Verdicts were left out of `events`.
    truncated: bool = False
    events: list[Verdict] = msgspec.field(default_factory=list)

    def add(self, verdicts: Iterable[Verdict]) -> None:
        for verdict in verdicts:
            outcome = verdict.verdict
            if outcome == "accepted":
                self.accepted += 1
            elif outcome == "duplicate":
                self.duplicates += 1
            elif outcome == "conflict":
                self.conflicts += 1
            else:
                self.rejected += 1
            self._list(verdict)

    def _list(self, verdict: Verdict) -> None:
        is_noteworthy = verdict.verdict in {"conflict", "rejected"}
        if len(self.events) < LISTED_EVENTS * (2 if is_noteworthy else 1):
            self.events.append(verdict)
        else:
            self.truncated = True


class EventsView(APIView):
    required_scopes = {"POST": Scope.EVENTS_WRITE}

    @extend_schema(**events_schema.POST)
    def post(self, request: Request) -> HttpResponse:
        token = request.user.token  # type: ignore[union-attr]
        if not isinstance(token, ServiceToken):
            raise Problem(403, "service_token_required", "Events are sent with a service token of the operator.")
        reply = Reply()
        try:
            for drafts in batched(_drafts(request), COMMIT_EVENTS):
                reply.add(accept(drafts, format="cloudevents", service_token_id=token.pk, now=timezone.now()))
        except OperationalError as error:
            raise _unavailable(reply) from error
        except Problem as problem:
            problem.extra |= _counts(reply)
            raise
        finally:
            if reply.accepted:
                _hint_folding()
        return HttpResponse(msgspec.json.encode(reply), content_type="application/json")

    def perform_content_negotiation(self, request: Request, force: bool = False) -> tuple[BaseRenderer, str]:
        """The answer is JSON whatever the sender's library says it would like."""
        return JSONRenderer(), JSONRenderer.media_type


def _drafts(request: Request) -> Iterator[Draft | Refusal]:
    media_type = (request.content_type or "").partition(";")[0].strip().lower()
    if media_type in cloudevents.NDJSON_TYPES:
        chunks = read_chunks(request._request)
        yield from map(cloudevents.decode_event, ndjson.lines(chunks, settings.EVENT_MAX_BYTES))
    elif media_type in cloudevents.JSON_TYPES:
        try:
            yield from cloudevents.decode_body(read_whole(request._request, settings.JSON_BODY_MAX_BYTES))
        except cloudevents.NotJson as error:
            raise Problem(400, error.code, error.sentence) from error
    else:
        raise Problem(
            415,
            "unsupported_media_type",
            "Send application/cloudevents+json, application/cloudevents-batch+json, application/json "
            "or application/x-ndjson.",
        )


def _unavailable(reply: Reply) -> Problem:
    detail = "The database did not answer. Send the whole body again: what was kept is not counted twice."
    problem = Problem(503, "unavailable", detail, **_counts(reply))
    problem.wait = 5  # type: ignore[attr-defined]
    return problem


def _counts(reply: Reply) -> dict[str, Any]:
    """What had been committed before a request broke off."""
    return {name: getattr(reply, name) for name in ("accepted", "duplicates", "conflicts", "rejected")}


class _Hint:
    """When this process last asked for folding, on the monotonic clock."""

    sent_at = float("-inf")


def _hint_folding() -> None:
    if time.monotonic() - _Hint.sent_at > HINT_SECONDS:
        _Hint.sent_at = time.monotonic()
        enqueue_on_commit(fold_pending_batches)
