"""What a gateway asks about a call, and what it is answered. Values only; sentences for refusals."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from decimal import ROUND_FLOOR, Decimal
from typing import Literal

import msgspec

from metering.exact import EXACT

SHORTEST, USUAL, LONGEST = timedelta(seconds=30), timedelta(minutes=10), timedelta(hours=1)


class AdmissionRequest(msgspec.Struct, frozen=True, gc=False):
    # The gateway's own id of the call, up to 255 characters.
    call_id: str
    # SHA-256 of the key that the caller presented, in hexadecimal.
    key_digest: str
    model: str
    # The end user, as the gateway knows them; empty: none was named.
    end_user: str = ""
    # Where the caller is; only looked at where a key is bound to networks.
    client_ip: str | None = None
    # Units by meter; None: made from the two below.
    estimate: Mapping[str, Decimal] | None = None
    prompt_tokens: int | None = None
    max_tokens: int | None = None
    time_to_live: timedelta = USUAL


class Limit(msgspec.Struct, frozen=True, gc=False):
    """One counter that the call touches, as it stands after the answer."""

    quota: str
    # meter, requests, concurrent or spend.
    measure: str
    # The meter's key, or the currency of spend; else empty.
    unit: str
    scope: str
    window: str
    models: tuple[str, ...]
    is_hard: bool
    amount: Decimal
    used: Decimal
    held: Decimal
    # What this call asked for on it.
    wanted: Decimal
    # None: never.
    resets_at: datetime | None
    set_by: str

    @property
    def remaining(self) -> Decimal:
        return max(Decimal(0), self.amount - self.used - self.held)

    @property
    def overdraft(self) -> Decimal:
        return max(Decimal(0), self.used - self.amount)


class Refusal(msgspec.Struct, frozen=True, gc=False):
    """Why not, in a stable code, a status for the caller, and a sentence fit for them."""

    code: str
    status: int
    message: str
    limit: Limit | None = None

    def retry_after(self, now: datetime) -> int | None:
        """Whole seconds until it may help to try again; None where waiting does not."""
        if self.limit is None:
            return None
        if self.limit.measure == "concurrent":
            return 1
        if self.limit.resets_at is None:
            return None
        return max(1, -int((now - self.limit.resets_at) // timedelta(seconds=1)))


class Unreachable(msgspec.Struct, frozen=True, gc=False):
    """What a gateway is to do while we cannot be asked."""

    mode: Literal["open", "closed"] = "open"
    max_amount: Decimal | None = None
    currency: str = ""
    max_requests: int | None = 1000


class Admission(msgspec.Struct, frozen=True, gc=False):
    call_id: str
    # None: refused.
    id: str | None
    refusal: Refusal | None
    expires_at: datetime | None = None
    # Public ids; empty where the key is unknown.
    organisation: str = ""
    project: str = ""
    api_key: str = ""
    estimate: Mapping[str, Decimal] = msgspec.field(default_factory=dict)
    # The most the estimate can cost; None: nothing of it has a price.
    quoted: Decimal | None = None
    currency: str = ""
    limits: tuple[Limit, ...] = ()
    unreachable: Unreachable = Unreachable()

    @property
    def is_allowed(self) -> bool:
        return self.refusal is None

    @property
    def passed(self) -> list[Limit]:
        """Soft limits that the call goes beyond."""
        return [limit for limit in self.limits if not limit.is_hard and limit.used + limit.held > limit.amount]


# Code -> status for the caller and what they are told. Those of limits are completed with the limit.
SENTENCES: dict[str, tuple[int, str]] = {
    "key_unknown": (401, "This API key is not known. Check that it was copied whole."),
    "key_revoked": (401, "This API key was revoked. Use another one."),
    "key_expired": (401, "This API key has expired. Use another one."),
    "organisation_suspended": (403, "This account is suspended. Please talk to your provider."),
    "project_archived": (403, "The project of this API key is archived. Use a key of another project."),
    "model_not_allowed": (403, "This API key may not use the model {model}."),
    "network_not_allowed": (403, "This API key may not be used from this network."),
    "call_ended": (409, "The call of this id has ended. Every call needs an id of its own."),
    "quota_exceeded": (429, "The limit of {amount} {what} {window} {state}{resets}."),
    "spend_limit_exceeded": (402, "The spending limit of {amount} {what} {window} {state}{resets}."),
    "credit_exhausted": (402, "The prepaid credit is used up. Top it up to go on."),
}
PER = {"none": "in total", "billing_period": "per billing period"}
WHOSE = {"project": " for this project", "api_key": " for this API key", "end_user": " for this end user"}
CENT = Decimal("0.01")


def refusal(code: str, *, model: str = "") -> Refusal:
    status, sentence = SENTENCES[code]
    return Refusal(code, status, sentence.format(model=model or "without a name"))


def limit_refusal(limit: Limit) -> Refusal:
    """The refusal by a counter that has no room."""
    code = "quota_exceeded"
    if limit.measure == "spend":
        code = "credit_exhausted" if limit.set_by == "credit" else "spend_limit_exceeded"
    status, sentence = SENTENCES[code]
    if limit.measure == "concurrent":
        sentence = "No more than {amount} calls{whose} may run at the same time. Try again when one has ended."
    if not limit.amount and code == "quota_exceeded":
        sentence = "A limit of 0 {what}{whose} lets no call through."
    what = {"requests": "requests", "concurrent": "calls at the same time"}.get(
        limit.measure, limit.unit.replace("_", " ")
    )
    resets = f"; it starts anew at {limit.resets_at:%Y-%m-%d %H:%M} UTC" if limit.resets_at else ""
    whose = WHOSE.get(limit.scope, "")
    text = sentence.format(
        amount=plain_text(limit.amount),
        what=what,
        whose=whose,
        window=PER.get(limit.window, f"per {limit.window}") + whose,
        state=_state(limit),
        resets=resets,
    )
    return Refusal(code, status, text, limit)


def _state(limit: Limit) -> str:
    """Whether a smaller call could still run."""
    left = limit.remaining
    if limit.measure == "spend":
        left = left.quantize(CENT, ROUND_FLOOR, context=EXACT)
    return f"has {plain_text(left)} left, too little for this call" if left else "is reached"


def plain_text(amount: Decimal) -> str:
    """1000000.000000 -> 1,000,000."""
    text = f"{amount:,f}"
    return text.rstrip("0").rstrip(".") if "." in text else text
