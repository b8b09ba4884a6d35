"""What people see of credit: each grant with what became of it, and every movement. Reads the ledger, changes nothing.

As many queries for one grant as for many.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import Any

from django.db.models import F, QuerySet, Sum, Window

from accounts.models import Organisation
from billing.bill_credits import holdings_of
from billing.bills import Bill
from billing.drawing import burn_order, is_usable
from billing.models import CreditGrant, GrantKind, LedgerAccount, LedgerEntry
from billing.money import EXACT, apportion, exact_sum, plain, round_to_minor
from billing.prepaid import EffectiveBalance
from billing.rating.wording import meter_noun

ZERO = Decimal(0)


# Of the parts of what is left, also at zero.
ALWAYS_SHOWN = ("Credit, as booked", "Used and not billed yet", "Held for calls in flight")
ORDINALS = ("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth")


class GrantStatus(StrEnum):
    COMING = "coming"
    USABLE = "usable"
    USED_UP = "used_up"
    EXPIRED = "expired"
    REVERSED = "reversed"
    PAID_BACK = "paid_back"


# Those of which something is left.
CURRENT = (GrantStatus.USABLE, GrantStatus.COMING)
STATUS_WORDS = {
    GrantStatus.COMING: "Not yet",
    GrantStatus.USABLE: "Can be used",
    GrantStatus.USED_UP: "Used up",
    GrantStatus.EXPIRED: "Expired",
    GrantStatus.REVERSED: "Taken back",
    GrantStatus.PAID_BACK: "Paid back",
}


@dataclass(frozen=True, slots=True)
class GrantState:
    """A grant and what became of its amount: used + left + expired + reversed = amount."""

    grant: CreditGrant
    used: Decimal
    left: Decimal
    expired: Decimal
    reversed: Decimal
    status: GrantStatus
    # Its place among those of its currency that can be used now; 0 if it cannot.
    place: int = 0

    @property
    def status_words(self) -> str:
        return STATUS_WORDS[self.status]

    @property
    def kind_words(self) -> str:
        return GrantKind(self.grant.kind).label

    @property
    def lapsed(self) -> Decimal:
        """What nobody used and nobody can: expired or taken back."""
        return self.expired + self.reversed

    @property
    def place_words(self) -> str:
        """ "Used first", "Used second", "Used 11th"; empty where it is not used now."""
        if not self.place:
            return ""
        return f"Used {ORDINALS[self.place - 1] if self.place <= len(ORDINALS) else _ordinal(self.place)}"

    @property
    def parts(self) -> list[tuple[str, str, str]]:
        """Of a bar 100 wide: what it is, where it begins, how long it is; what is left comes first."""
        begins, found = ZERO, []
        for name, amount in (("left", self.left), ("used", self.used), ("lapsed", self.lapsed)):
            share = amount * 100 / self.grant.amount
            if share:
                found.append((name, f"{begins:.3f}", f"{share:.3f}"))
            begins += share
        return found


@dataclass(frozen=True, slots=True)
class CurrencyBalance:
    """What can be used now in a currency, and what will be later."""

    currency: str
    usable: Decimal
    coming: Decimal
    # Of those that can be used now, the one that expires next.
    next_to_expire: GrantState | None


@dataclass(frozen=True, slots=True)
class SumRow:
    """A line of a sum, in minor units."""

    label: str
    minor: int
    is_total: bool = False


def grant_states(organisation: Organisation, now: datetime) -> list[GrantState]:
    """Those that can be used first, in the order in which they will be; then what is to come; then what is over."""
    grants = CreditGrant.objects.for_organisation(organisation).with_sums()
    states = [state_of(grant, now) for grant in grants]
    usable = [state for state in states if state.status == GrantStatus.USABLE]
    coming = [state for state in states if state.status == GrantStatus.COMING]
    over = [state for state in states if state.status not in CURRENT]
    return [
        *_placed(sorted(usable, key=lambda state: burn_order(state.grant))),
        *sorted(coming, key=lambda state: (state.grant.effective_at, state.grant.pk)),
        *sorted(over, key=lambda state: -state.grant.pk),
    ]


def state_of(grant: Any, now: datetime) -> GrantState:
    """The state of a grant read by `with_sums`."""
    sums = {name: getattr(grant, name) for name in ("used", "left", "expired", "reversed")}
    return GrantState(grant=grant, **sums, status=_status(grant, now))


def balances(states: Sequence[GrantState]) -> list[CurrencyBalance]:
    """By currency, in the order of the alphabet."""
    currencies = sorted({state.grant.currency for state in states})
    return [
        CurrencyBalance(
            currency=currency,
            usable=_sum_left(states, currency, GrantStatus.USABLE),
            coming=_sum_left(states, currency, GrantStatus.COMING),
            next_to_expire=_next_to_expire(states, currency),
        )
        for currency in currencies
    ]


def left_after(bill: Bill, organisation: Organisation, now: datetime) -> Decimal | None:
    """What is left of the credit that can be used now once the bill is paid from it; None where there is none."""
    held = [one for one in holdings_of(organisation) if one.grant.currency == bill.currency]
    usable = {one.grant.pk: one.left for one in held if is_usable(one.grant, now)}
    if not usable:
        return None
    drawn = exact_sum(draw.amount for draw in bill.draws if draw.grant.pk in usable)
    return plain(EXACT.subtract(exact_sum(usable.values()), drawn))


def prepaid_sum(balance: EffectiveBalance) -> list[SumRow]:
    """How what calls can still use comes about; the rows before a total add up to it, in whole minor units."""
    parts = [
        ("Credit, as booked", balance.booked),
        ("Used and not billed yet", balance.unbilled.copy_negate()),
        ("Only for certain meters", balance.set_aside.copy_negate()),
        ("Held for calls in flight", balance.held.copy_negate()),
    ]
    shown = [(label, amount) for label, amount in parts if amount or label in ALWAYS_SHOWN]
    total, shares = apportion([amount for _, amount in shown], balance.currency)
    rows = [SumRow(label, share) for (label, _), share in zip(shown, shares, strict=True)]
    rows.append(SumRow("Left", total, is_total=True))
    if balance.overdraft:
        overdraft = round_to_minor(balance.overdraft, balance.currency)
        rows.append(SumRow("Agreed overdraft", overdraft))
        rows.append(SumRow("Calls can still use", max(0, total + overdraft), is_total=True))
    return rows


def movements(grants: QuerySet[CreditGrant]) -> QuerySet[LedgerEntry]:
    """What changed what was left of these grants, newest first; each with `left_after` and its transaction."""
    left_after = Window(Sum("amount"), partition_by=[F("grant")], order_by=F("pk").asc())
    rows = LedgerEntry.objects.filter(account=LedgerAccount.REMAINING, grant__in=grants)
    annotated: QuerySet[LedgerEntry] = rows.annotate(left_after=left_after).order_by("-transaction__at", "-pk")
    return annotated.select_related("grant", "transaction__invoice").defer(
        "transaction__invoice__evidence", "transaction__invoice__parties"
    )


def pays_for(grant: CreditGrant, names: Mapping[str, str]) -> str:
    """ "Pays for input tokens and output tokens only." `names` are the meters' by key."""
    if not grant.meters:
        return "Pays for usage, not for fees." if grant.is_limited else "Pays for everything on the bill."
    nouns = [names.get(key, meter_noun(key)).lower() for key in grant.meters]
    listed = nouns[0] if len(nouns) == 1 else f"{', '.join(nouns[:-1])} and {nouns[-1]}"
    return f"Pays for {listed} only."


def _placed(states: Sequence[GrantState]) -> list[GrantState]:
    """With the place of each among those of its currency."""
    places: dict[str, int] = {}
    placed = []
    for state in states:
        places[state.grant.currency] = places.get(state.grant.currency, 0) + 1
        placed.append(replace(state, place=places[state.grant.currency]))
    return placed


def _ordinal(number: int) -> str:
    tens, ones = divmod(number % 100, 10)
    return f"{number}{'th' if tens == 1 else {1: 'st', 2: 'nd', 3: 'rd'}.get(ones, 'th')}"


def _sum_left(states: Sequence[GrantState], currency: str, status: GrantStatus) -> Decimal:
    return sum((one.left for one in states if one.grant.currency == currency and one.status == status), ZERO)


def _next_to_expire(states: Sequence[GrantState], currency: str) -> GrantState | None:
    ending = [one for one in states if one.grant.currency == currency and one.place and one.grant.expires_at]
    return min(ending, key=lambda one: (one.grant.expires_at, one.grant.pk), default=None)


def _status(grant: Any, now: datetime) -> GrantStatus:
    if grant.left > 0 and is_usable(grant, now):
        return GrantStatus.USABLE
    if grant.left > 0 and now < grant.effective_at:
        return GrantStatus.COMING
    # Past its end nothing is left of it, also before that is booked.
    if grant.left > 0 or grant.expired > 0:
        return GrantStatus.EXPIRED
    if grant.paid_back > 0:
        return GrantStatus.PAID_BACK
    return GrantStatus.REVERSED if grant.reversed > 0 else GrantStatus.USED_UP
