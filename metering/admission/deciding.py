"""Allow or deny: counters are locked, judged and written in one statement, which also confirms the remembered terms.

Calls that are asked about at the same time in one process share it, and the commit: that is most of what an admission
costs. `would_admit` asks the same questions in the same order and writes nothing.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import msgspec
from django.db import DatabaseError, connection
from msgspec.structs import replace

from accounts.api_keys import PresentedKey
from accounts.errors import DomainError
from accounts.gathering import Gathering
from accounts.key_restrictions import allows_model
from accounts.prepared import run_prepared
from accounts.public_ids import new_public_id
from metering.admission import denials
from metering.admission.counters import Counter, counters_of, spend_of
from metering.admission.holding import FOR_EVER, Call, Outcome, Outdated, take
from metering.admission.lookups import Found, Question, Terms, look_up
from metering.admission.memory import find, recall
from metering.admission.requests import (
    LONGEST,
    SHORTEST,
    Admission,
    AdmissionRequest,
    Limit,
    Refusal,
    limit_refusal,
    refusal,
)
from metering.models.quotas import Hold, HoldState
from metering.quota_windows import BEGINNING

# Whoever holds a counter longer holds up its own calls only, and not all that came with them.
LONGEST_WAIT = "100ms"

STATE_OF_COUNTERS = """
SELECT coalesce(w.used, 0), coalesce(w.held, 0)
FROM unnest(%s::bigint[], %s::text[], %s::timestamptz[]) WITH ORDINALITY AS p (quota, subject, start, place)
LEFT JOIN quota_window w ON w.organisation_id = %s AND w.quota_id = p.quota AND w.subject = p.subject
                        AND w.starts_at = p.start
ORDER BY p.place"""


class TokenEnded(DomainError):
    code = "token_ended"
    status = 401
    sentence = "This token has been revoked or has expired."


class _Asked(msgspec.Struct, frozen=True, gc=False):
    request: AdmissionRequest
    now: datetime
    question: Question


class _Decision(msgspec.Struct, gc=False):
    found: Found
    answer: Admission


def admit(request: AdmissionRequest, *, now: datetime, service_token_id: int | None = None) -> Admission:
    """Decide about a call and, if it may run, hold what it needs. The same call id is answered with its first hold.

    Where the gateway's token is only remembered, name it: raises TokenEnded unless it is live.
    """
    asked = _Asked(request, now, _question(request, service_token_id))
    decision = _decide_together(asked) or _decide([asked])[0]
    if not decision.found.is_token_live:
        raise TokenEnded
    return _noted(request, decision, now)


def admit_all(requests: Sequence[AdmissionRequest], *, now: datetime) -> list[Admission]:
    """Decide about several calls at once, each after the ones before it. All of their holds are written, or none."""
    decisions = _decide([_Asked(request, now, _question(request)) for request in requests])
    return [_noted(request, decision, now) for request, decision in zip(requests, decisions, strict=True)]


def would_admit(request: AdmissionRequest, *, now: datetime) -> Admission:
    """What `admit` would answer now to a call that it has not seen; nothing is held and nothing noted."""
    (found,) = look_up([_question(request)], now)
    if found.key is None:
        return _unknown(request)
    key = found.key
    answer, counters = _prepare(request, key, found.terms, now)
    if answer.refusal is not None:
        return answer
    states = run_prepared(STATE_OF_COUNTERS, [*_places(counters), key.organisation_id]).fetchall()
    used, held = [row[0] for row in states], [row[1] for row in states]
    return _judged(answer, counters, used, held, is_held=False)


def identify(request: AdmissionRequest, *, now: datetime) -> Admission:
    """Whose key it is, and whether it may be used at all: nothing is estimated, held or noted. For what is no call."""
    (found,) = look_up([_question(request)], now)
    if found.key is None:
        return _unknown(request)
    key = found.key
    return Admission(
        call_id=request.call_id,
        id=None,
        refusal=_refused_key(request, key, now),
        organisation=key.organisation_public_id,
        project=key.project_public_id,
        api_key=key.api_key_public_id,
        unreachable=found.terms.unreachable,
    )


def _decide_what_can_be(asked: Sequence[_Asked]) -> Sequence[_Decision | None]:
    """None for all where one of them cannot be decided, or only after a long wait: then each goes by itself."""
    try:
        return _decide(asked, longest_wait=LONGEST_WAIT)
    except DatabaseError:
        return [None] * len(asked)


# Two at once: while one waits for the database, the other can be prepared.
_decide_together = Gathering[_Asked, _Decision | None](_decide_what_can_be, at_once=2)


def _decide(asked: Sequence[_Asked], *, longest_wait: str = FOR_EVER) -> list[_Decision]:
    """Everything is decided as of the latest of their moments."""
    now = max(one.now for one in asked)
    recalled = {} if connection.in_atomic_block else recall((one.question for one in asked), now)
    try:
        return _decide_by(recalled, asked, now, longest_wait)
    except Outdated:
        return _decide_by({}, asked, now, longest_wait)


def _decide_by(
    recalled: Mapping[Question, Found], asked: Sequence[_Asked], now: datetime, longest_wait: str
) -> list[_Decision]:
    """Raises Outdated where what is recalled does not stand, or would refuse."""
    found = {**recalled, **find([one.question for one in asked if one.question not in recalled], now)}
    decisions = [_Decision(found[one.question], _unknown(one.request)) for one in asked]
    waiting = []
    for one, decision in zip(asked, decisions, strict=True):
        key = decision.found.key
        if key is None or not decision.found.is_token_live:
            continue
        decision.answer, counters = _prepare(one.request, key, decision.found.terms, now)
        is_recalled = one.question in recalled
        if decision.answer.refusal is None:
            waiting.append((_call(one.request, decision, counters, now, is_recalled=is_recalled), decision))
        elif is_recalled:
            raise Outdated
    while waiting:
        waiting = _take_first_of_each(waiting, now, longest_wait)
    return decisions


def _take_first_of_each(
    waiting: Sequence[tuple[Call, _Decision]], now: datetime, longest_wait: str
) -> list[tuple[Call, _Decision]]:
    """Take the holds of all different calls, and return those that were asked about twice, to be looked at again."""
    first: dict[tuple[int, str], tuple[Call, _Decision]] = {}
    repeated = []
    for call, decision in waiting:
        if first.setdefault(call.identity, (call, decision))[0] is not call:
            repeated.append((call, decision))
    outcomes = take([call for call, _ in first.values()], now, longest_wait=longest_wait)
    for (call, decision), outcome in zip(first.values(), outcomes, strict=True):
        decision.answer = _answered(call, outcome)
    return repeated


def _call(
    request: AdmissionRequest, decision: _Decision, counters: Sequence[Counter], now: datetime, *, is_recalled: bool
) -> Call:
    assert decision.found.key is not None, "an unknown key is refused before"
    return Call(
        request=request,
        key=decision.found.key,
        terms=decision.found.terms,
        answer=decision.answer,
        counters=counters,
        hold_id=new_public_id("adm"),
        expires_at=now + min(max(request.time_to_live, SHORTEST), LONGEST),
        since=decision.found.since if is_recalled else None,
    )


def _answered(call: Call, outcome: Outcome) -> Admission:
    if outcome.kind == "known":
        assert outcome.known_id is not None, "a known call has a hold"
        return _known(call.answer, call.key.organisation_id, outcome.known_id, call.counters)
    is_held = outcome.kind == "held"
    judged = _judged(call.answer, call.counters, outcome.used, outcome.held, is_held=is_held)
    return replace(judged, id=call.hold_id, expires_at=call.expires_at) if is_held else judged


def _noted(request: AdmissionRequest, decision: _Decision, now: datetime) -> Admission:
    if decision.answer.refusal is not None and decision.found.key is not None:
        denials.note(decision.found.key, request, decision.answer.refusal, now)
    return decision.answer


def _question(request: AdmissionRequest, service_token_id: int | None = None) -> Question:
    return Question(request.key_digest, request.model, request.end_user, service_token_id)


def _unknown(request: AdmissionRequest) -> Admission:
    return Admission(request.call_id, None, refusal("key_unknown"))


def _prepare(
    request: AdmissionRequest, key: PresentedKey, terms: Terms, now: datetime
) -> tuple[Admission, list[Counter]]:
    """All of the answer that does not hang on counters."""
    estimate = _estimate(request, terms)
    priced = any(meter in terms.prices for meter in estimate)
    answer = Admission(
        call_id=request.call_id,
        id=None,
        refusal=_refused_without_counters(request, key, terms, now),
        organisation=key.organisation_public_id,
        project=key.project_public_id,
        api_key=key.api_key_public_id,
        estimate=estimate,
        quoted=spend_of(estimate, terms.prices) if priced else None,
        currency=terms.currency if priced else "",
        unreachable=terms.unreachable,
    )
    zone = ZoneInfo(key.time_zone)
    counters = counters_of(terms, estimate, model=request.model, end_user=request.end_user, zone=zone, now=now)
    return answer, counters


def _estimate(request: AdmissionRequest, terms: Terms) -> Mapping[str, Decimal]:
    if request.estimate is not None:
        return request.estimate
    prompt, answer = request.prompt_tokens, request.max_tokens
    return {
        "input_tokens": Decimal(terms.default_input_tokens if prompt is None else prompt),
        "output_tokens": Decimal(terms.default_output_tokens if answer is None else answer),
    }


def _refused_without_counters(
    request: AdmissionRequest, key: PresentedKey, terms: Terms, now: datetime
) -> Refusal | None:
    if (refused := _refused_key(request, key, now)) is not None:
        return refused
    if not (key.allows_model(request.model) and _plan_allows(terms, request.model)):
        return refusal("model_not_allowed", model=request.model)
    return None


def _refused_key(request: AdmissionRequest, key: PresentedKey, now: datetime) -> Refusal | None:
    """What speaks against the key, whatever it is used for."""
    status = key.status(now)
    if status != "active":
        return refusal(f"key_{status}")
    if key.is_suspended:
        return refusal("organisation_suspended")
    if key.is_project_archived:
        return refusal("project_archived")
    if not key.allows_address(request.client_ip):
        return refusal("network_not_allowed")
    return None


def _plan_allows(terms: Terms, model: str) -> bool:
    return allows_model(terms.plan_models, model)


def _known(answer: Admission, organisation_id: int, hold_id: str, counters: Sequence[Counter]) -> Admission:
    """The first answer again, with the limits as they are now. A call that has ended holds nothing any more, and so
    lets no other call pass under its id."""
    hold = Hold.objects.get(organisation_id=organisation_id, id=hold_id)
    if hold.state != HoldState.HELD:
        return replace(answer, refusal=refusal("call_ended"))
    states = run_prepared(STATE_OF_COUNTERS, [*_places(counters), organisation_id]).fetchall()
    limits = tuple(_limit(counter, used, held) for counter, (used, held) in zip(counters, states, strict=True))
    estimate = {meter: Decimal(units) for meter, units in hold.estimate.items()}
    quoted = quoted_of(hold)
    return replace(
        answer,
        id=hold.id,
        expires_at=hold.expires_at,
        estimate=estimate,
        quoted=quoted,
        currency="" if quoted is None else hold.currency,
        limits=limits,
    )


def quoted_of(hold: Hold) -> Decimal | None:
    """The most that its estimate can cost, at the prices of when it was taken; None: nothing of it had a price."""
    prices = {meter: Decimal(price) for meter, price in hold.prices.items()}
    estimate = {meter: Decimal(units) for meter, units in hold.estimate.items()}
    return spend_of(estimate, prices) if prices.keys() & estimate.keys() else None


def _places(counters: Sequence[Counter]) -> list[list[Any]]:
    return [
        [counter.quota.id for counter in counters],
        [counter.subject for counter in counters],
        [counter.span.start for counter in counters],
    ]


def _judged(
    answer: Admission,
    counters: Sequence[Counter],
    used: Sequence[Decimal],
    held: Sequence[Decimal],
    *,
    is_held: bool,
) -> Admission:
    """The answer with its limits, and refused by the limit among the full ones that takes longest to reset."""
    if is_held:
        held = [before + counter.wanted for before, counter in zip(held, counters, strict=True)]
    limits = tuple(map(_limit, counters, used, held))
    if is_held:
        return replace(answer, limits=limits)
    full = [limit for limit in limits if limit.is_hard and 0 < limit.wanted > limit.amount - limit.used - limit.held]
    if not full:
        return replace(answer, limits=limits)
    longest = max(full, key=lambda limit: (limit.resets_at is None, limit.resets_at or BEGINNING))
    return replace(answer, limits=limits, refusal=limit_refusal(longest))


def _limit(counter: Counter, used: Decimal, held: Decimal) -> Limit:
    quota = counter.quota
    return Limit(
        quota=quota.public_id,
        measure=quota.measure,
        unit=quota.meter or quota.currency,
        scope=quota.scope,
        window=quota.window,
        models=quota.model_patterns,
        is_hard=quota.is_hard,
        amount=quota.amount,
        used=used,
        held=held,
        wanted=counter.wanted,
        resets_at=counter.span.end,
        set_by=quota.set_by,
    )
