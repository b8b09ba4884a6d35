"""What people see of credit: each grant with what became of it, and every movement. Reads the ledger, changes nothing.

As many queries for one grant as for many.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import Any

from django.db.models import F, QuerySet, Sum, Window

from accounts.models import Organisation
from billing.crediting import burn_order, is_usable
from billing.models import CreditGrant, GrantKind, LedgerAccount, LedgerEntry
from billing.rating.wording import meter_noun

ZERO = Decimal(0)


class GrantStatus(StrEnum):
    COMING = "coming"
    USABLE = "usable"
    USED_UP = "used_up"
    EXPIRED = "expired"
    REVERSED = "reversed"


STATUS_WORDS = {
    GrantStatus.COMING: "Not yet",
    GrantStatus.USABLE: "Can be used",
    GrantStatus.USED_UP: "Used up",
    GrantStatus.EXPIRED: "Expired",
    GrantStatus.REVERSED: "Taken back",
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
    def gone(self) -> Decimal:
        return self.used + self.lapsed


@dataclass(frozen=True, slots=True)
class CurrencyBalance:
    """What can be used now in a currency, and what will be later."""

    currency: str
    usable: Decimal
    coming: Decimal


def grant_states(organisation: Organisation, now: datetime) -> list[GrantState]:
    """Those that can be used first, in the order in which they will be; then what is to come; then what is over."""
    grants = CreditGrant.objects.for_organisation(organisation).with_sums()
    states = [state_of(grant, now) for grant in grants]
    usable = [state for state in states if state.status == GrantStatus.USABLE]
    coming = [state for state in states if state.status == GrantStatus.COMING]
    over = [state for state in states if state.status not in (GrantStatus.USABLE, GrantStatus.COMING)]
    return [
        *sorted(usable, key=lambda state: burn_order(state.grant)),
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
        )
        for currency in currencies
    ]


def movements(grants: QuerySet[CreditGrant]) -> QuerySet[LedgerEntry]:
    """What changed what was left of these grants, newest first; each with `left_after` and its transaction."""
    left_after = Window(Sum("amount"), partition_by=[F("grant")], order_by=F("pk").asc())
    rows = LedgerEntry.objects.filter(account=LedgerAccount.REMAINING, grant__in=grants)
    annotated: QuerySet[LedgerEntry] = rows.annotate(left_after=left_after).order_by("-pk")
    return annotated.select_related("grant", "transaction__invoice").defer(
        "transaction__invoice__evidence", "transaction__invoice__parties"
    )


def pays_for(grant: CreditGrant, names: Mapping[str, str]) -> str:
    """ "Pays for input tokens and output tokens only." `names` are the meters' by key."""
    if not grant.meters:
        return "Pays for everything on the bill."
    nouns = [names.get(key, meter_noun(key)).lower() for key in grant.meters]
    listed = nouns[0] if len(nouns) == 1 else f"{', '.join(nouns[:-1])} and {nouns[-1]}"
    return f"Pays for {listed} only."


def _sum_left(states: Sequence[GrantState], currency: str, status: GrantStatus) -> Decimal:
    return sum((one.left for one in states if one.grant.currency == currency and one.status == status), ZERO)


def _status(grant: Any, now: datetime) -> GrantStatus:
    if grant.left > 0 and is_usable(grant, now):
        return GrantStatus.USABLE
    if grant.left > 0 and now < grant.effective_at:
        return GrantStatus.COMING
    # Past its end nothing is left of it, also before that is booked.
    if grant.left > 0 or grant.expired > 0:
        return GrantStatus.EXPIRED
    return GrantStatus.REVERSED if grant.reversed > 0 else GrantStatus.USED_UP
