"""Organisations that pay before they use: what they can still spend, and telling metering, which stops them there.

Metering counts what is spent by upper prices and never looks at bills. So it is told anew how far its counter may go
whenever credit moves, and every minute: by then what was spent costs exactly what the bill says. The counter is read
before the bill is computed; usage that is counted in between makes the limit stricter until the next time, never wider.
"""

import logging
from dataclasses import dataclass
from datetime import datetime
from decimal import ROUND_FLOOR, Decimal

from django.db import transaction
from django.db.models import F
from django.http import HttpRequest

from accounts.audit import Actor, record
from accounts.errors import DomainError
from accounts.models import Organisation
from accounts.remembering import remembering
from billing.bill_credits import holdings_of
from billing.drawing import Holding, is_usable
from billing.models import PrepaidTerms, Subscription
from billing.money import EXACT, QUOTIENT, ZERO, exact_sum, plain
from billing.open_bills import drawn_bills
from metering.credit_counter import credit_counter
from metering.quotas import set_credit_limit

logger = logging.getLogger(__name__)

AT_A_TIME = 1000
# As a limit's column keeps it.
PLACES = Decimal(1).scaleb(-12)
LARGEST_OVERDRAFT = 10**12


class PrepaidInvalid(DomainError):
    code = "prepaid_invalid"
    sentence = "An overdraft is an amount from zero up."
    status = 422


class NoPlanToPrepay(DomainError):
    code = "no_plan_to_prepay"
    sentence = "Without a plan nothing is charged, so there is nothing to pay before."


@dataclass(frozen=True, slots=True, kw_only=True)
class EffectiveBalance:
    """What credit is really worth now, with its parts; in the currency's major unit, exact."""

    currency: str
    is_prepaid: bool
    # What is left of grants that can be used now, by the ledger.
    booked: Decimal
    # What open bills come to, but for what expired grants still pay of them.
    unbilled: Decimal
    # Of `booked`: credit for certain charges, while others' charges are not paid by any; and what of a plan's credit
    # lapses as soon as a period that has ended is closed.
    set_aside: Decimal
    # What calls in flight hold, and calls that ended and are not metered yet. Known of prepaid organisations only.
    held: Decimal
    overdraft: Decimal

    @property
    def effective(self) -> Decimal:
        """Below zero where more was used than credit pays for."""
        taken = exact_sum((self.unbilled, self.set_aside, self.held))
        return plain(EXACT.subtract(self.booked, taken))

    @property
    def spendable(self) -> Decimal:
        """What new calls may still cost."""
        return max(ZERO, plain(EXACT.add(self.effective, self.overdraft)))


def agree_prepaid(
    organisation: Organisation,
    *,
    overdraft: Decimal,
    now: datetime,
    actor: Actor = None,
    request: HttpRequest | None = None,
) -> PrepaidTerms:
    """From now on calls stop where credit ends, or as far below as is agreed. Raises PrepaidInvalid and NoPlanToPrepay.

    Asked again, it changes the overdraft.
    """
    if not overdraft.is_finite() or not 0 <= overdraft < LARGEST_OVERDRAFT:
        raise PrepaidInvalid
    with transaction.atomic():
        subscription = Subscription.objects.for_organisation(organisation).current().first()
        if subscription is None:
            raise NoPlanToPrepay
        if PrepaidTerms.objects.filter(organisation=organisation).exclude(currency=subscription.currency).exists():
            set_credit_limit(organisation, amount=None, currency="", now=now)  # another currency is counted anew
        values = {"overdraft": overdraft, "currency": subscription.currency}
        terms, _ = PrepaidTerms.objects.update_or_create(
            organisation=organisation, defaults=values, create_defaults=values | {"since": now}
        )
        details = {"overdraft": str(overdraft), "currency": terms.currency}
        record("prepaid.agreed", organisation=organisation, actor=actor, details=details, request=request)
        tell_limit(organisation, now)
    return terms


def end_prepaid(
    organisation: Organisation, *, now: datetime, actor: Actor = None, request: HttpRequest | None = None
) -> None:
    """What is used is billed from now on, and credit stops nobody. Does nothing where nothing was agreed."""
    with transaction.atomic():
        ended, _ = PrepaidTerms.objects.filter(organisation=organisation).delete()
        if ended:
            set_credit_limit(organisation, amount=None, currency="", now=now)
            record("prepaid.ended", organisation=organisation, actor=actor, request=request)


def effective_balance(organisation: Organisation, currency: str, now: datetime) -> EffectiveBalance:
    """Booked minus what is used and not billed, minus what calls hold."""
    terms = PrepaidTerms.objects.filter(organisation=organisation, currency=currency).first()
    counter = credit_counter(organisation, now) if terms is not None else None
    with remembering():
        booked, unbilled, set_aside = _balance(organisation, currency, now)
    return EffectiveBalance(
        currency=currency,
        is_prepaid=terms is not None,
        booked=booked,
        unbilled=unbilled,
        set_aside=set_aside,
        held=ZERO if counter is None else plain(EXACT.add(counter.held, counter.unmetered)),
        overdraft=ZERO if terms is None else plain(terms.overdraft),
    )


def tell_limit(organisation: Organisation, now: datetime) -> None:
    """Tell metering how much may be spent, if the organisation is prepaid; in the transaction of what changed it."""
    with transaction.atomic():
        terms = PrepaidTerms.objects.filter(organisation=organisation).first()
        if terms is None:
            return
        # Whoever comes later waits here, and then sees what this transaction has booked.
        Organisation.objects.select_for_update(no_key=True).get(pk=organisation.pk)
        counter = credit_counter(organisation, now)
        if counter is None:
            set_credit_limit(organisation, amount=ZERO, currency=terms.currency, now=now)
            counter = credit_counter(organisation, now)
        assert counter is not None, "the limit has just been set"
        with remembering(anew=True):
            booked, unbilled, set_aside = _balance(organisation, terms.currency, now)
        gained = exact_sum((counter.used, booked, terms.overdraft))
        may_spend = EXACT.subtract(gained, exact_sum((unbilled, set_aside, counter.unmetered)))
        amount = max(ZERO, may_spend.quantize(PLACES, rounding=ROUND_FLOOR, context=QUOTIENT))
        set_credit_limit(organisation, amount=amount, currency=terms.currency, now=now)
        PrepaidTerms.objects.filter(organisation=organisation).update(told_at=now)


def tell_limits(now: datetime, *, limit: int = AT_A_TIME) -> int:
    """Those of every prepaid organisation, the longest waiting first; one that fails does not stop the others."""
    waiting = PrepaidTerms.objects.order_by(F("told_at").asc(nulls_first=True)).select_related("organisation")
    told = 0
    for terms in list(waiting[:limit]):
        try:
            tell_limit(terms.organisation, now)
        except Exception:
            logger.exception("Telling what %s may spend failed", terms.organisation.public_id)
        else:
            told += 1
    return told


def _balance(organisation: Organisation, currency: str, now: datetime) -> tuple[Decimal, Decimal, Decimal]:
    """(booked, unbilled, set aside), as EffectiveBalance has them."""
    usable = [one for one in holdings_of(organisation) if one.grant.currency == currency and is_usable(one.grant, now)]
    charged, paid_by_expired, unpaid, lapsing = ZERO, ZERO, ZERO, ZERO
    left = {one.grant.pk: one for one in usable}
    for drawn in drawn_bills(organisation, currency, now):
        charged = EXACT.add(charged, drawn.bill.total_exact)
        unpaid = exact_sum((unpaid, drawn.bill.total_exact, *(draw.amount.copy_negate() for draw in drawn.draws)))
        expired = (draw.amount for draw in drawn.draws if draw.grant.pk not in left)
        paid_by_expired = exact_sum((paid_by_expired, *expired))
        lapsing = exact_sum((lapsing, *(lapse.amount for lapse in drawn.lapses if lapse.grant.pk in left)))
        for draw in (*drawn.draws, *drawn.lapses):
            left |= {draw.grant.pk: Holding(draw.grant, draw.left)} if draw.grant.pk in left else {}
    limited = exact_sum(one.left for one in left.values() if one.grant.is_limited) if unpaid > 0 else ZERO
    booked = exact_sum(one.left for one in usable)
    return plain(booked), plain(EXACT.subtract(charged, paid_by_expired)), plain(EXACT.add(limited, lapsing))
