"""Granting credit, using it up, letting it expire and taking it back: each a transaction of the ledger.

Every verb locks the grants it moves, in the order of their keys, before it reads what is left of them.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from django.db import transaction
from django.db.models import Q, Sum
from django.http import HttpRequest

from accounts.audit import Actor, record
from accounts.errors import DomainError
from accounts.models import Organisation
from billing.models import (
    CreditGrant,
    GrantKind,
    Invoice,
    LedgerAccount,
    LedgerEntry,
    LedgerKind,
    LedgerTransaction,
)
from billing.money import CURRENCIES
from metering.models import Meter

ZERO = Decimal(0)
# What the columns hold, with room for sums.
LARGEST_AMOUNT = 10**12
SMALLEST_PLACES = 18
LAST_PRIORITY = 32_767
LONGEST_REASON = 200


class GrantInvalid(DomainError):
    code = "grant_invalid"
    sentence = "This credit cannot be granted."
    status = 422


class NothingLeft(DomainError):
    code = "nothing_left"
    sentence = "Nothing is left of this credit."


@dataclass(frozen=True)
class Charge:
    """What may be paid by credit. The meter is empty for a charge that is of none, such as a fee."""

    meter: str
    amount: Decimal


@dataclass(frozen=True)
class Draw:
    grant: CreditGrant
    amount: Decimal
    left: Decimal


def grant_credit(
    organisation: Organisation,
    *,
    kind: str,
    amount: Decimal,
    currency: str,
    reason: str,
    now: datetime,
    priority: int = 100,
    effective_at: datetime | None = None,
    expires_at: datetime | None = None,
    meters: Sequence[str] = (),
    actor: Actor = None,
    request: HttpRequest | None = None,
) -> CreditGrant:
    """Raises GrantInvalid."""
    begins = effective_at or now
    require_grantable(
        kind=kind,
        amount=amount,
        currency=currency,
        reason=reason,
        now=now,
        priority=priority,
        effective_at=effective_at,
        expires_at=expires_at,
        meters=meters,
    )
    with transaction.atomic():
        grant = CreditGrant.objects.create(
            organisation=organisation,
            kind=kind,
            amount=amount,
            currency=currency,
            priority=priority,
            effective_at=begins,
            expires_at=expires_at,
            meters=list(meters),
            reason=reason,
            created_at=now,
        )
        entries = [(grant, LedgerAccount.GRANTED, -amount), (grant, LedgerAccount.REMAINING, amount)]
        _post(organisation, LedgerKind.GRANTED, entries, now=now)
        _record("credit.granted", grant, amount, actor=actor, request=request)
    return grant


def require_grantable(
    *,
    kind: str,
    amount: Decimal,
    currency: str,
    reason: str,
    now: datetime,
    priority: int = 100,
    effective_at: datetime | None = None,
    expires_at: datetime | None = None,
    meters: Sequence[str] = (),
) -> None:
    """Raises GrantInvalid for what `grant_credit` would refuse; writes nothing."""
    if kind not in GrantKind.values:
        raise GrantInvalid(f"There is no kind of credit called “{kind}”: use {', '.join(GrantKind.values)}.")
    _require_sound(amount, currency, priority, reason)
    if expires_at is not None and expires_at <= max(effective_at or now, now):
        raise GrantInvalid("A credit expires after it begins, and not in the past.")
    unknown = set(meters) - set(Meter.objects.filter(key__in=meters).values_list("key", flat=True))
    if unknown:
        raise GrantInvalid(f"There is no meter called “{min(unknown)}”, so this credit could never pay for it.")


def _require_sound(amount: Decimal, currency: str, priority: int, reason: str) -> None:
    if not amount.is_finite() or amount <= 0 or currency not in CURRENCIES:
        raise GrantInvalid("A credit needs an amount above zero in a currency, such as USD.")
    places = -int(amount.normalize().as_tuple().exponent)
    if amount >= LARGEST_AMOUNT or places > SMALLEST_PLACES:
        raise GrantInvalid(f"A credit is below {LARGEST_AMOUNT:,} and has at most {SMALLEST_PLACES} decimals.")
    if not 0 <= priority <= LAST_PRIORITY:
        raise GrantInvalid(f"A priority is a whole number from 0 to {LAST_PRIORITY}; smaller is used first.")
    if not reason.strip() or len(reason) > LONGEST_REASON or "\x00" in reason:
        raise GrantInvalid(f"Say what the credit is for, in at most {LONGEST_REASON} characters.")


def reverse_grant(
    grant: CreditGrant, *, now: datetime, actor: Actor = None, request: HttpRequest | None = None
) -> Decimal:
    """Take back what is left of a grant; answers how much that was. Raises NothingLeft."""
    with transaction.atomic():
        [locked] = _locked(CreditGrant.objects.filter(pk=grant.pk))
        left = remaining([locked])[locked.pk]
        if left <= 0:
            raise NothingLeft
        _move_out([(locked, left)], LedgerKind.REVERSED, now=now)
        _record("credit.reversed", locked, left, actor=actor, request=request)
    return left


def expire_grants(now: datetime) -> int:
    """Book out what is left of grants past their end; answers how many there were."""
    left = Sum("entries__amount", filter=Q(entries__account=LedgerAccount.REMAINING))
    due = CreditGrant.objects.filter(expires_at__lte=now).annotate(left=left).filter(left__gt=0)
    expired = 0
    for pk in list(due.order_by("pk").values_list("pk", flat=True)):
        with transaction.atomic():
            [grant] = _locked(CreditGrant.objects.filter(pk=pk))
            rest = remaining([grant])[pk]
            if rest > 0:
                _move_out([(grant, rest)], LedgerKind.EXPIRED, now=now)
                expired += 1
    return expired


def use_credit(invoice: Invoice, charges: Iterable[Charge], *, currency: str, now: datetime) -> list[Draw]:
    """Pay the charges of an invoice as far as credit reaches. Once per invoice: asked again, it answers nothing."""
    with transaction.atomic():
        grants = _locked(CreditGrant.objects.for_organisation(invoice.organisation).filter(currency=currency))
        if LedgerTransaction.objects.for_organisation(invoice.organisation).filter(invoice=invoice).exists():
            return []
        draws = planned_draws(grants, remaining(grants), charges, now=now)
        if draws:
            _move_out([(draw.grant, draw.amount) for draw in draws], LedgerKind.USED, now=now, invoice=invoice)
    return draws


def planned_draws(
    grants: Iterable[CreditGrant], left: Mapping[int, Decimal], charges: Iterable[Charge], *, now: datetime
) -> list[Draw]:
    """What each grant would pay: by priority, then what expires first, then the oldest. Nothing is written."""
    open_amounts: dict[str, Decimal] = {}
    for charge in charges:
        open_amounts[charge.meter] = open_amounts.get(charge.meter, ZERO) + charge.amount
    draws: list[Draw] = []
    for grant in sorted((grant for grant in grants if is_usable(grant, now)), key=burn_order):
        # What is charged in all bounds it too: a meter below zero makes others' charges no larger than the bill.
        room = min(left[grant.pk], max(sum(open_amounts.values(), ZERO), ZERO))
        before = room
        for meter, amount in open_amounts.items():
            if amount > 0 and (not grant.meters or meter in grant.meters):
                taken = min(room, amount)
                open_amounts[meter] -= taken
                room -= taken
        if before > room:
            draws.append(Draw(grant, before - room, left[grant.pk] - (before - room)))
    return draws


def balance(organisation: Organisation, *, currency: str, now: datetime) -> Decimal:
    """What is booked and can be used now."""
    grants = list(CreditGrant.objects.for_organisation(organisation).filter(currency=currency))
    left = remaining(grants)
    return sum((left[grant.pk] for grant in grants if is_usable(grant, now)), ZERO)


def remaining(grants: Sequence[CreditGrant]) -> dict[int, Decimal]:
    entries = LedgerEntry.objects.filter(grant__in=grants, account=LedgerAccount.REMAINING)
    sums = dict(entries.order_by().values_list("grant").annotate(Sum("amount")))
    return {grant.pk: sums.get(grant.pk, ZERO) for grant in grants}


def is_usable(grant: CreditGrant, now: datetime) -> bool:
    return grant.effective_at <= now and (grant.expires_at is None or now < grant.expires_at)


def burn_order(grant: CreditGrant) -> tuple[Any, ...]:
    return (
        grant.priority,
        grant.expires_at is None,
        grant.expires_at or grant.effective_at,
        grant.effective_at,
        grant.pk,
    )


def _locked(grants: Any) -> list[CreditGrant]:
    return list(grants.select_for_update(of=("self",), no_key=True).order_by("pk"))


def _move_out(
    amounts: Iterable[tuple[CreditGrant, Decimal]], kind: LedgerKind, *, now: datetime, invoice: Invoice | None = None
) -> None:
    entries = []
    organisation = None
    for grant, amount in amounts:
        organisation = grant.organisation
        entries += [(grant, LedgerAccount.REMAINING, -amount), (grant, LedgerAccount(kind.value), amount)]
    if organisation is not None:
        _post(organisation, kind, entries, now=now, invoice=invoice)


def _post(
    organisation: Organisation,
    kind: LedgerKind,
    entries: Iterable[tuple[CreditGrant, LedgerAccount, Decimal]],
    *,
    now: datetime,
    invoice: Invoice | None = None,
) -> None:
    moved = LedgerTransaction.objects.create(organisation=organisation, kind=kind, invoice=invoice, at=now)
    LedgerEntry.objects.bulk_create(
        LedgerEntry(organisation=organisation, transaction=moved, grant=grant, account=account, amount=amount)
        for grant, account, amount in entries
    )


def _record(action: str, grant: CreditGrant, amount: Decimal, *, actor: Actor, request: HttpRequest | None) -> None:
    record(
        action,
        organisation=grant.organisation,
        actor=actor,
        subject_id=grant.public_id,
        subject_label=grant.reason,
        details={"amount": str(amount), "currency": grant.currency},
        request=request,
    )
