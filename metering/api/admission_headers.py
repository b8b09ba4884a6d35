"""The headers by which OpenAI's clients slow down: x-ratelimit-* of the tightest limits, and Retry-After."""

from collections.abc import Iterable
from datetime import datetime, timedelta

from metering.admission import Admission, Limit

TOKENS = frozenset({"input_tokens", "output_tokens", "tokens"})


def headers_of(answer: Admission, now: datetime) -> dict[str, str]:
    headers: dict[str, str] = {}
    hard = [limit for limit in answer.limits if limit.is_hard]
    for name, limit in (
        ("requests", _tightest(one for one in hard if one.measure == "requests")),
        ("tokens", _tightest(one for one in hard if one.measure == "meter" and one.unit in TOKENS)),
    ):
        if limit is not None:
            headers[f"x-ratelimit-limit-{name}"] = _whole(limit.amount)
            headers[f"x-ratelimit-remaining-{name}"] = _whole(limit.remaining)
            headers[f"x-ratelimit-reset-{name}"] = _duration(limit, now)
    wait = answer.refusal.retry_after(now) if answer.refusal else None
    if wait is not None:
        headers["retry-after"] = str(wait)
    return headers


def _tightest(limits: Iterable[Limit]) -> Limit | None:
    return min(limits, key=lambda limit: limit.remaining, default=None)


def _whole(amount: object) -> str:
    return str(int(amount))  # type: ignore[call-overload]


def _duration(limit: Limit, now: datetime) -> str:
    """As OpenAI writes it: 6m0s."""
    if limit.resets_at is None:
        return "0s"
    seconds = max(0, -int((now - limit.resets_at) // timedelta(seconds=1)))
    hours, rest = divmod(seconds, 3600)
    minutes, seconds = divmod(rest, 60)
    return f"{hours}h{minutes}m{seconds}s" if hours else f"{minutes}m{seconds}s" if minutes else f"{seconds}s"
