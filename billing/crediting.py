"""Granting credit, using it up, letting it expire and taking it back: each a transaction of the ledger.

Every verb locks the grants it moves, in the order of their keys, before it reads what is left of them. Metering
is told at once what a prepaid organisation may spend now.
"""

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from decimal import Decimal
from itertools import batched

from django.db import transaction
from django.db.models import Q, Sum
from django.http import HttpRequest

from accounts.audit import Actor, record
from accounts.errors import DomainError
from accounts.models import Organisation
from accounts.remembering import remembering
from billing import schedules
from billing.drawing import Draw, is_usable
from billing.holdings import locked_grants, remaining, unused_holdings
from billing.models import (
    CreditGrant,
    GrantKind,
    Invoice,
    LedgerAccount,
    LedgerEntry,
    LedgerKind,
    LedgerTransaction,
    Subscription,
)
from billing.money import CURRENCIES, exact_sum
from billing.prepaid import tell_limit
from metering.models import Meter

# What the columns of a grant hold, with room for sums; what is drawn on it is exact to any number of places.
LARGEST_AMOUNT = 10**12
SMALLEST_PLACES = 18
LAST_PRIORITY = 32_767
LONGEST_REASON = 200
AT_A_TIME = 500

# From which account to which the movements of a kind go; what is granted comes from where credit comes from.
SIDES = {
    LedgerKind.GRANTED: (LedgerAccount.GRANTED, LedgerAccount.REMAINING),
    LedgerKind.USED: (LedgerAccount.REMAINING, LedgerAccount.USED),
    LedgerKind.EXPIRED: (LedgerAccount.REMAINING, LedgerAccount.EXPIRED),
    LedgerKind.REVERSED: (LedgerAccount.REMAINING, LedgerAccount.REVERSED),
    LedgerKind.PAID_BACK: (LedgerAccount.REMAINING, LedgerAccount.REVERSED),
    LedgerKind.RETURNED: (LedgerAccount.USED, LedgerAccount.REMAINING),
}


class GrantInvalid(DomainError):
    code = "grant_invalid"
    sentence = "This credit cannot be granted."
    status = 422


class NothingLeft(DomainError):
    code = "nothing_left"
    sentence = "Nothing is left of this credit."


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
    grant = CreditGrant(
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
    return book_grant(grant, now=now, actor=actor, request=request)


def book_grant(
    grant: CreditGrant, *, now: datetime, actor: Actor = None, request: HttpRequest | None = None
) -> CreditGrant:
    """Save a grant that somebody has looked at, with its first movement."""
    with transaction.atomic():
        grant.save(force_insert=True)
        _move([(grant, grant.amount)], LedgerKind.GRANTED, now=now)
        _record("credit.granted", grant, grant.amount, actor=actor, request=request)
        tell_limit(grant.organisation, now)
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
    grant: CreditGrant,
    *,
    now: datetime,
    at_most: Decimal | None = None,
    actor: Actor = None,
    request: HttpRequest | None = None,
) -> Decimal:
    """Take back what is left of a grant, or `at_most` so much of it; answers how much that was. Raises NothingLeft."""
    return _take_out(
        grant, LedgerKind.REVERSED, "credit.reversed", now=now, at_most=at_most, actor=actor, request=request
    )


def pay_back(
    grant: CreditGrant, *, reference: str, now: datetime, actor: Actor = None, request: HttpRequest | None = None
) -> Decimal:
    """Book that the customer got what is left of a grant as money; answers how much. `reference` says how, for the
    audit log. Sends no money. Raises NothingLeft."""
    return _take_out(
        grant, LedgerKind.PAID_BACK, "credit.paid_back", now=now, actor=actor, request=request, reference=reference
    )


def _take_out(
    grant: CreditGrant,
    kind: LedgerKind,
    action: str,
    *,
    now: datetime,
    at_most: Decimal | None = None,
    actor: Actor,
    request: HttpRequest | None,
    **more: str,
) -> Decimal:
    with transaction.atomic():
        [locked] = locked_grants(CreditGrant.objects.filter(pk=grant.pk))
        left = remaining([locked])[locked.pk]
        if left <= 0:
            raise NothingLeft
        left = left if at_most is None else min(left, at_most)
        _move([(locked, left)], kind, now=now)
        _record(action, locked, left, actor=actor, request=request, **more)
        tell_limit(locked.organisation, now)
    return left


def expire_grants(now: datetime) -> int:
    """Book out what is left of grants past their end, once no open bill can be paid with it; answers how many."""
    left = Sum("entries__amount", filter=Q(entries__account=LedgerAccount.REMAINING))
    due = CreditGrant.objects.filter(expires_at__lte=now).annotate(left=left).filter(left__gt=0)
    expired = 0
    for some in batched(due.select_related("organisation").order_by("pk"), AT_A_TIME, strict=False):
        for grant in _paying_no_more(some):
            expired += _expire(grant, now)
    return expired


def book_lapses(lapsed: Iterable[Sequence[Draw]], now: datetime) -> None:
    """What lapses of an organisation's grants, which the caller's transaction has locked, as expired."""
    for lapses in lapsed:
        if lapses:
            _move([(lapse.grant, lapse.amount) for lapse in lapses], LedgerKind.EXPIRED, now=now)


def book_draws(paid: Iterable[tuple[Invoice, Sequence[Draw]]], now: datetime) -> None:
    """What invoices draw on grants, which the caller's transaction has locked. Once per invoice, by a constraint."""
    drawn = [(invoice, draws) for invoice, draws in paid if draws]
    moved = [
        LedgerTransaction(organisation=invoice.organisation, kind=LedgerKind.USED, invoice=invoice, at=now)
        for invoice, _ in drawn
    ]
    LedgerTransaction.objects.bulk_create(moved)
    LedgerEntry.objects.bulk_create(
        entry
        for one, (_, draws) in zip(moved, drawn, strict=True)
        for entry in _entries(one, [(draw.grant, draw.amount) for draw in draws])
    )


def return_credit(invoice: Invoice, now: datetime) -> None:
    """Give back what an invoice used that has become void: once, and whatever its grants have become since."""
    used = LedgerEntry.objects.filter(
        transaction__invoice=invoice, transaction__kind=LedgerKind.USED, account=LedgerAccount.USED
    )
    with transaction.atomic():
        grants = locked_grants(CreditGrant.objects.filter(pk__in=used.values("grant")).select_related("organisation"))
        if not grants or LedgerTransaction.objects.filter(invoice=invoice, kind=LedgerKind.RETURNED).exists():
            return
        amounts = dict(used.values_list("grant", "amount"))
        returned = [(grant, amounts[grant.pk]) for grant in grants]
        _move(returned, LedgerKind.RETURNED, now=now, invoice=invoice)
        for grant, amount in returned:
            _record("credit.returned", grant, amount, actor=None, request=None)
        tell_limit(invoice.organisation, now)


def balance(organisation: Organisation, *, currency: str, now: datetime) -> Decimal:
    """What is booked and can be used now."""
    held = unused_holdings([organisation]).get(organisation.pk, [])
    return exact_sum(one.left for one in held if one.grant.currency == currency and is_usable(one.grant, now))


def _expire(grant: CreditGrant, now: datetime) -> bool:
    """Whether something was left, which no open period that was closed meanwhile has taken."""
    with transaction.atomic():
        locked = locked_grants(CreditGrant.objects.filter(pk=grant.pk).select_related("organisation"))
        rest = remaining(locked)[grant.pk]
        if rest <= 0 or not _paying_no_more(locked):
            return False
        _move([(locked[0], rest)], LedgerKind.EXPIRED, now=now)
        tell_limit(grant.organisation, now)
    return True


def _paying_no_more(grants: Sequence[CreditGrant]) -> list[CreditGrant]:
    """Of expired grants those for which no period that they were valid in waits to be closed."""
    organisations = {grant.organisation for grant in grants}
    open_since: dict[tuple[int, str], datetime] = {}
    with remembering(anew=True):
        schedules.look_up_invoices(organisations)
        for one in Subscription.objects.filter(organisation__in=organisations).select_related("organisation"):
            period, place = schedules.earliest_open_period(one), (one.organisation_id, one.currency)
            if period is not None:
                open_since[place] = min(period.start, open_since.get(place, period.start))
    return [
        grant
        for grant in grants
        if (since := open_since.get((grant.organisation_id, grant.currency))) is None
        or grant.expires_at is None
        or grant.expires_at <= since
    ]


def _move(
    amounts: Sequence[tuple[CreditGrant, Decimal]], kind: LedgerKind, *, now: datetime, invoice: Invoice | None = None
) -> None:
    organisation = amounts[0][0].organisation
    moved = LedgerTransaction.objects.create(organisation=organisation, kind=kind, invoice=invoice, at=now)
    LedgerEntry.objects.bulk_create(_entries(moved, amounts))


def _entries(moved: LedgerTransaction, amounts: Iterable[tuple[CreditGrant, Decimal]]) -> Iterator[LedgerEntry]:
    """Both sides of each movement."""
    source, target = SIDES[LedgerKind(moved.kind)]
    for grant, amount in amounts:
        for account, change in ((source, amount.copy_negate()), (target, amount)):
            yield LedgerEntry(
                organisation_id=moved.organisation_id, transaction=moved, grant=grant, account=account, amount=change
            )


def _record(
    action: str, grant: CreditGrant, amount: Decimal, *, actor: Actor, request: HttpRequest | None, **more: str
) -> None:
    record(
        action,
        organisation=grant.organisation,
        actor=actor,
        subject_id=grant.public_id,
        subject_label=grant.reason,
        details={"amount": str(amount), "currency": grant.currency, **more},
        request=request,
    )
