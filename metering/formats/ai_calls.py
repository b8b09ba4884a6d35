"""What gateways and instrumentations report about a call to a model, as `ai.usage` events.

Only what is named here gets through: no prompt, answer or credential can reach a draft. `ai.failure` is a call that
failed without using a token: it is kept and seen, and feeds no meter, so that nobody pays for it.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import ROUND_HALF_EVEN, Decimal
from hashlib import sha256
from typing import Any

import msgspec

from accounts.credentials import digest_of
from metering.drafts import Draft, Refusal, body_of, make_draft
from metering.formats.token_pools import Reported, exclusive
from metering.models.events import RejectionReason

AI_USAGE = "ai.usage"
AI_FAILURE = "ai.failure"
TEXT_LIMIT = 255
DIGEST = re.compile(r"[0-9a-f]{64}")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LAST_SECOND = 253_402_300_799  # of the year 9999
# As fine as a metered value may be.
_COST_DECIMALS = Decimal(1).scaleb(-18)


class Unusable(ValueError):
    """The report cannot become an event; the text is for the sender."""


@dataclass(frozen=True, slots=True)
class Call:
    """One call to a model, as reported."""

    source: str
    event_id: str
    # Empty: the report says nothing about whose call it was.
    subject: str
    time: datetime | None
    counts: Reported
    # Names, kinds and states that customers and operators group by; None is left out.
    facts: Mapping[str, Any] = field(default_factory=dict)
    has_failed: bool = False
    # The gateway answered from a cache of its own: the model used nothing.
    is_from_gateway_cache: bool = False
    # See token_pools.exclusive.
    may_exclude_cache: bool = False
    flags: tuple[str, ...] = ()


def draft_of(call: Call) -> Draft | Refusal:
    """The event of a call; a refusal, with the event as its body, where nobody is named as its user."""
    data = {name: value for name, value in call.facts.items() if value is not None}
    is_usage = call.counts.has_usage or not call.has_failed
    draft = make_draft(
        source=call.source,
        event_id=call.event_id,
        type=AI_USAGE if is_usage else AI_FAILURE,
        subject=call.subject,
        time=call.time,
        data=data | (_usage(call) if is_usage else {}),
    )
    if call.subject:
        return draft
    detail = "It does not say whose call it was: the API key's SHA-256 is missing."
    return Refusal(RejectionReason.UNKNOWN_SUBJECT, detail, body_of(draft), draft.source, draft.event_id)


def unreadable(raw: bytes, detail: str) -> Refusal:
    """What cannot be read might hold a prompt, so only its length and digest are kept."""
    body = msgspec.json.encode({"unreadable_bytes": len(raw), "sha256": sha256(raw).hexdigest()})
    return Refusal(RejectionReason.INVALID_EVENT, detail, body)


# --- Reading values ---------------------------------------------------------------------------------------------------


def text(value: Any) -> str | None:
    """A name as it may be stored: cut at 255 characters, without NUL and half surrogates; None if it is no text."""
    if not isinstance(value, str):
        return None
    return value[:TEXT_LIMIT].replace("\x00", "\ufffd").encode("utf-8", "replace").decode() or None


def identifier(value: str) -> str:
    """An event id as it is, or its digest where it is too long or cannot be stored: it stays the same for the same."""
    clean = text(value)
    return value if clean == value else sha256(value.encode("utf-8", "surrogatepass")).hexdigest()


def key_digest(value: Any) -> str:
    """The SHA-256 of an API key. Anything but 64 hexadecimal digits may be the key itself, and is hashed first."""
    if not isinstance(value, str) or not value:
        return ""
    return value if DIGEST.fullmatch(value) else digest_of(value.encode("utf-8", "replace").decode())


def subject(value: Any) -> str:
    """A subject that a sender names freely; a secret key put there by mistake is hashed."""
    named = text(value) or ""
    return digest_of(str(value)) if named.startswith("sk-") else named


def instant(value: Any) -> datetime | None:
    """Seconds since 1970, exact to the microsecond; Unusable for what is no instant, None for None and 0."""
    if value is None or value == 0:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, Decimal)) or not 0 < value <= _LAST_SECOND:
        raise Unusable(f"Its time {str(value)[:40]!r} is not in seconds since 1970.")
    microseconds = (Decimal(value) * 1_000_000).to_integral_value(ROUND_HALF_EVEN)
    return _EPOCH + timedelta(microseconds=int(microseconds))


def instant_of_nanoseconds(value: int) -> datetime | None:
    """Nanoseconds since 1970, to the microsecond; None for 0."""
    return instant(Decimal(value // 1000).scaleb(-6))


def cost(value: Any) -> Decimal | None:
    """What the source believes the call cost, in US dollars, to 18 decimals; None if it is no sensible number."""
    if isinstance(value, bool) or not isinstance(value, (int, Decimal)):
        return None
    exact = Decimal(value)
    if not exact.is_finite() or not -18 <= exact.adjusted() <= 8:
        return Decimal(0) if exact == 0 else None
    return exact.quantize(_COST_DECIMALS).normalize() + 0


# --- Usage ------------------------------------------------------------------------------------------------------------


def _usage(call: Call) -> dict[str, Any]:
    if call.is_from_gateway_cache:
        served = {"gateway_cache_input_tokens": call.counts.input, "gateway_cache_output_tokens": call.counts.output}
        return {"gateway_cache_hit": True} | {name: count for name, count in served.items() if count is not None}
    if call.counts.is_silent:
        return {"metering": "unmetered"}
    pools = exclusive(call.counts, may_exclude_cache=call.may_exclude_cache)
    usage: dict[str, Any] = dict(pools.tokens)
    if flags := [*call.flags, *pools.flags]:
        usage["flags"] = flags
    if pools.flags:
        usage["reported"] = {
            name: value for name in Reported.__dataclass_fields__ if (value := getattr(call.counts, name)) is not None
        }
    return usage
