"""Allow or deny. The key and the terms are read, the counters are locked, looked at and written in one call.

`would_admit` asks the same questions in the same order and writes nothing.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import msgspec

from accounts.api_keys import PresentedKey
from accounts.key_restrictions import allows_model
from accounts.prepared import run_prepared
from accounts.public_ids import new_public_id
from metering.admission import denials
from metering.admission.counters import Counter, counters_of, spend_of
from metering.admission.lookups import Terms, look_up
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

TAKE_HOLD = """
SELECT * FROM take_hold(
    %s::bigint, %s::text, %s::text, %s::bigint, %s::bigint, %s::text, %s::text, %s::jsonb, %s::jsonb, %s::text,
    %s::bigint[], %s::text[], %s::timestamptz[], %s::timestamptz[], %s::text[], %s::numeric[], %s::numeric[],
    %s::timestamptz, %s::timestamptz)"""

STATE_OF_COUNTERS = """
SELECT coalesce(w.used, 0), coalesce(w.held, 0)
FROM unnest(%s::bigint[], %s::text[], %s::timestamptz[]) WITH ORDINALITY AS p (quota, subject, start, place)
LEFT JOIN quota_window w ON w.organisation_id = %s AND w.quota_id = p.quota AND w.subject = p.subject
                        AND w.starts_at = p.start
ORDER BY p.place"""

_encode = msgspec.json.Encoder(decimal_format="string").encode


def admit(request: AdmissionRequest, *, now: datetime, service_token_id: int | None = None) -> Admission:
    """Decide about a call and, if it may run, hold what it needs. The same call id is answered with its first hold.

    Where the gateway's token is only remembered, name it: raises TokenEnded unless it is live.
    """
    found = _look_up(request, now, service_token_id)
    if found is None:
        return Admission(request.call_id, None, refusal("key_unknown"))
    key, terms = found
    answer, counters = _prepare(request, key, terms, now)
    if answer.refusal is None:
        answer = _take(request, key, terms, answer, counters, now)
    if answer.refusal is not None:
        denials.note(key, request, answer.refusal, now)
    return answer


def would_admit(request: AdmissionRequest, *, now: datetime) -> Admission:
    """What `admit` would answer now to a call that it has not seen; nothing is held and nothing noted."""
    found = _look_up(request, now)
    if found is None:
        return Admission(request.call_id, None, refusal("key_unknown"))
    key, terms = found
    answer, counters = _prepare(request, key, terms, now)
    if answer.refusal is not None:
        return answer
    states = run_prepared(STATE_OF_COUNTERS, [*_places(counters), key.organisation_id]).fetchall()
    used, held = [row[0] for row in states], [row[1] for row in states]
    return _judged(answer, counters, used, held, is_held=False)


def identify(request: AdmissionRequest, *, now: datetime) -> Admission:
    """Whose key it is, and whether it may be used at all: nothing is estimated, held or noted. For what is no call."""
    found = _look_up(request, now)
    if found is None:
        return Admission(request.call_id, None, refusal("key_unknown"))
    key, terms = found
    return Admission(
        call_id=request.call_id,
        id=None,
        refusal=_refused_key(request, key, now),
        organisation=key.organisation_public_id,
        project=key.project_public_id,
        api_key=key.api_key_public_id,
        unreachable=terms.unreachable,
    )


def _look_up(
    request: AdmissionRequest, now: datetime, service_token_id: int | None = None
) -> tuple[PresentedKey, Terms] | None:
    return look_up(
        request.key_digest, model=request.model, end_user=request.end_user, now=now, service_token_id=service_token_id
    )


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


def _take(
    request: AdmissionRequest,
    key: PresentedKey,
    terms: Terms,
    answer: Admission,
    counters: Sequence[Counter],
    now: datetime,
) -> Admission:
    hold_id = new_public_id("adm")
    expires_at = now + min(max(request.time_to_live, SHORTEST), LONGEST)
    outcome, known_id, used, held = run_prepared(
        TAKE_HOLD,
        [
            key.organisation_id,
            hold_id,
            request.call_id,
            key.api_key_id,
            key.project_id,
            request.model,
            request.end_user,
            _encode(answer.estimate).decode(),
            _encode(terms.prices).decode(),
            terms.currency,
            *_places(counters),
            [counter.span.end for counter in counters],
            [counter.quota.kind for counter in counters],
            [counter.wanted for counter in counters],
            [counter.quota.amount if counter.quota.is_hard else None for counter in counters],
            now,
            expires_at,
        ],
    ).fetchone()  # type: ignore[misc]
    if outcome == "known":
        return _known(answer, key.organisation_id, known_id, counters)
    judged = _judged(answer, counters, used or [], held or [], is_held=outcome == "held")
    if outcome == "held":
        return replace(judged, id=hold_id, expires_at=expires_at)
    return judged


def _known(answer: Admission, organisation_id: int, hold_id: str, counters: Sequence[Counter]) -> Admission:
    """The first answer again, with the limits as they are now. A call that has ended holds nothing any more, and so
    lets no other call pass under its id."""
    hold = Hold.objects.get(organisation_id=organisation_id, id=hold_id)
    if hold.state != HoldState.HELD:
        return replace(answer, refusal=refusal("call_ended"))
    states = run_prepared(STATE_OF_COUNTERS, [*_places(counters), organisation_id]).fetchall()
    limits = tuple(_limit(counter, used, held) for counter, (used, held) in zip(counters, states, strict=True))
    estimate = {meter: Decimal(units) for meter, units in hold.estimate.items()}
    return replace(answer, id=hold.id, expires_at=hold.expires_at, estimate=estimate, limits=limits)


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
    before = [_limit(counter, *state) for counter, state in zip(counters, zip(used, held, strict=True), strict=True)]
    if is_held:
        return replace(answer, limits=tuple(replace(limit, held=limit.held + limit.wanted) for limit in before))
    full = [limit for limit in before if limit.is_hard and 0 < limit.wanted > limit.amount - limit.used - limit.held]
    if not full:
        return replace(answer, limits=tuple(before))
    longest = max(full, key=lambda limit: (limit.resets_at is None, limit.resets_at or BEGINNING))
    return replace(answer, limits=tuple(before), refusal=limit_refusal(longest))


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
