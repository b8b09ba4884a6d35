"""Telling prepaid organisations that their credit runs low, is almost used up, and is used up; and when there is more.

What is left is compared with what the grants it comes from had to give. Each level is told once for each time that
credit came in; a lower one that is told speaks for those above it. It is over when more has come in and enough is
left, or when the organisation is no longer prepaid. Metering sends what is left here to be told.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from django.db.models import Max

from accounts.models import Organisation
from billing import schedules
from billing.drawing import is_usable
from billing.holdings import unused_holdings
from billing.models import CreditGrant, PrepaidTerms, Subscription
from billing.money import EXACT, ZERO, exact_sum, format_money, round_to_minor
from billing.prepaid import effective_balance
from metering.alerts import open_credit_alerts, recover_credit_alerts, tell_of_credit
from metering.credit_counter import credit_left

# Percent of what the grants had, below which it is told.
LEVELS = (20, 5, 0)
AT_A_TIME = 200


@dataclass(frozen=True, slots=True)
class CreditLevel:
    """What is left before an overdraft begins, of what; since when nothing came in."""

    left: Decimal
    whole: Decimal
    since: datetime

    def has_reached(self, percent: int) -> bool:
        return self.left * 100 <= percent * self.whole


def watch_credit(now: datetime) -> int:
    """Look at every prepaid organisation; how many were told of a level."""
    told = 0
    for terms in PrepaidTerms.objects.select_related("organisation").order_by("pk").iterator(AT_A_TIME):
        level = credit_level(terms, now)
        if level is None:
            continue
        told += _tell(terms, level, now)
        recover_credit_alerts(terms.organisation, _levels_over(level), before=level.since, now=now)
    for organisation in Organisation.objects.filter(pk__in=open_credit_alerts(), prepaid_terms=None):
        recover_credit_alerts(organisation, LEVELS, before=now, now=now)
    return told


def credit_level(terms: PrepaidTerms, now: datetime) -> CreditLevel | None:
    """None where metering does not count credit yet."""
    spendable = credit_left(terms.organisation)
    if spendable is None:
        return None
    held = unused_holdings([terms.organisation]).get(terms.organisation_id, [])
    usable = [one.grant for one in held if one.grant.currency == terms.currency and is_usable(one.grant, now)]
    sums: Any = CreditGrant.objects.filter(pk__in=[grant.pk for grant in usable]).with_sums()
    whole = exact_sum(amount for grant in sums for amount in (grant.used, grant.left))
    came_in = CreditGrant.objects.for_organisation(terms.organisation).filter(
        currency=terms.currency, effective_at__lte=now
    )
    since = came_in.aggregate(at=Max("effective_at"))["at"]
    return CreditLevel(EXACT.subtract(spendable, terms.overdraft), whole, max(since or terms.since, terms.since))


def _tell(terms: PrepaidTerms, level: CreditLevel, now: datetime) -> bool:
    reached = [percent for percent in LEVELS if level.has_reached(percent)]
    if not reached:
        return False
    return tell_of_credit(
        terms.organisation,
        percent_left=min(reached),
        since=level.since,
        left=level.left,
        whole=level.whole,
        text=lambda: _words(terms, level, min(reached), now),
        now=now,
    )


def _levels_over(level: CreditLevel) -> Sequence[int]:
    """Calls run again above zero. Running low is over above all levels, so that a small top-up says nothing."""
    if not level.has_reached(max(LEVELS)):
        return LEVELS
    return () if level.has_reached(0) else (0,)


def _words(terms: PrepaidTerms, level: CreditLevel, percent: int, now: datetime) -> str:
    if percent == 0:
        if not terms.overdraft:
            return "Your prepaid credit is used up. Calls are refused until there is more."
        overdraft = _money(terms.overdraft, terms.currency)
        return f"Your prepaid credit is used up. Calls go on until the agreed overdraft of {overdraft} is used up too."
    left = f"{_money(level.left, terms.currency)} of {_money(level.whole, terms.currency)} is left"
    beginning = "is almost used up" if percent == min(set(LEVELS) - {0}) else "runs low"
    return f"Your prepaid credit {beginning}: {left}.{_how_long(terms, level, now)}"


def _how_long(terms: PrepaidTerms, level: CreditLevel, now: datetime) -> str:
    """At the pace of the running period; nothing where that says nothing."""
    subscription = Subscription.objects.for_organisation(terms.organisation).current().first()
    used = effective_balance(terms.organisation, terms.currency, now).unbilled
    if subscription is None or used <= 0:
        return ""
    passed = now - schedules.current_period(subscription, now).start
    days = int(level.left / used * Decimal(passed / timedelta(seconds=1)) / 86_400)
    for_so_long = "less than a day" if days < 1 else f"about {days} day{'s' if days > 1 else ''}"
    return f" At the pace of this period your credit will last {for_so_long}."


def _money(amount: Decimal, currency: str) -> str:
    return format_money(round_to_minor(max(ZERO, amount), currency), currency)
