"""What the ways in share: commit drafts step by step, count the verdicts, ask for folding, say what was kept.

Senders lose what is refused, so everything that could be kept is answered with success, and nothing ever with 429.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from itertools import batched
from operator import attrgetter
from typing import Any

import msgspec
from django.db import OperationalError
from django.http import HttpResponse
from django.utils import timezone
from rest_framework.request import Request
from rest_framework.views import APIView

from accounts.enqueue import enqueue_on_commit
from accounts.models import Scope, ServiceToken
from accounts.problems import Problem
from metering.api.json_alone import JsonAlone
from metering.intake import Draft, Refusal, Verdict, accept
from metering.tasks import fold_pending_batches

# Events committed together.
COMMIT_EVENTS = 1000
# Verdicts listed in one answer; past it only those that are neither accepted nor duplicates, and as many again.
LISTED_EVENTS = 10_000
# Folding also runs by itself every few seconds; one hint a second per process is enough.
HINT_SECONDS = 1.0
_OUTCOME = attrgetter("verdict")


class Reply(msgspec.Struct):
    """The body of the answer."""

    accepted: int = 0
    duplicates: int = 0
    conflicts: int = 0
    rejected: int = 0
    # Verdicts were left out of `events`.
    truncated: bool = False
    events: list[Verdict] = msgspec.field(default_factory=list)

    def add(self, verdicts: Sequence[Verdict]) -> None:
        outcomes = Counter(map(_OUTCOME, verdicts))
        self.accepted += outcomes["accepted"]
        self.duplicates += outcomes["duplicate"]
        self.conflicts += outcomes["conflict"]
        self.rejected += outcomes["rejected"]
        if len(self.events) + len(verdicts) <= LISTED_EVENTS:
            self.events += verdicts
        else:
            self._list_some(verdicts)

    def _list_some(self, verdicts: Sequence[Verdict]) -> None:
        for verdict in verdicts:
            is_noteworthy = verdict.verdict in {"conflict", "rejected"}
            if len(self.events) < LISTED_EVENTS * (2 if is_noteworthy else 1):
                self.events.append(verdict)
            else:
                self.truncated = True

    def counts(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in ("accepted", "duplicates", "conflicts", "rejected")}


class WayIn(APIView):
    """A view that takes usage in."""

    required_scopes = {"POST": Scope.EVENTS_WRITE}
    content_negotiation_class = JsonAlone


def service_token_of(request: Request) -> ServiceToken:
    """The operator's token that sends; Problem 403 for an organisation's."""
    token = request.user.token  # type: ignore[union-attr]
    if not isinstance(token, ServiceToken):
        raise Problem(403, "service_token_required", "Events are sent with a service token of the operator.")
    return token


def take(
    drafts: Iterable[Draft | Refusal],
    *,
    format: str,
    service_token_id: int | None,
    confirm: Callable[[], None] | None = None,
) -> Reply:
    """Commit everything, in steps; a Problem that breaks it off says how many events were kept before.

    Where the token is only remembered, `confirm` looks it up, once at least unless the one statement that stored the
    one event did.
    """
    reply = Reply()
    try:
        for step in batched(drafts, COMMIT_EVENTS):
            now = timezone.now()
            reply.add(accept(step, format=format, service_token_id=service_token_id, now=now, confirm=confirm))
    except OperationalError as error:
        raise _unavailable(reply) from error
    except Problem as problem:
        problem.extra |= reply.counts()
        _confirm_idle(reply, confirm)
        raise
    finally:
        if reply.accepted:
            hint_folding()
    _confirm_idle(reply, confirm)
    return reply


def _confirm_idle(reply: Reply, confirm: Callable[[], None] | None) -> None:
    """Whoever had nothing accepted was perhaps not looked up yet."""
    if confirm is not None and not reply.accepted:
        confirm()


def verdicts_response(reply: Reply) -> HttpResponse:
    return HttpResponse(msgspec.json.encode(reply), content_type="application/json")


def _unavailable(reply: Reply) -> Problem:
    detail = "The database did not answer. Send the whole body again: what was kept is not counted twice."
    problem = Problem(503, "unavailable", detail, **reply.counts())
    problem.wait = 5  # type: ignore[attr-defined]
    return problem


class _Hint:
    """When this process last asked for folding, on the monotonic clock."""

    sent_at = float("-inf")


def hint_folding() -> None:
    """Ask for folding now, unless this process did so a moment ago."""
    if time.monotonic() - _Hint.sent_at > HINT_SECONDS:
        _Hint.sent_at = time.monotonic()
        enqueue_on_commit(fold_pending_batches)
