"""The credit of the demo's organisations, granted through the verb at the instants of their stories."""

from datetime import datetime, timedelta
from decimal import Decimal

from accounts.models import Organisation
from billing.crediting import grant_credit
from billing.demo.offers import ACTOR
from billing.demo.stories import Story
from billing.models import CreditGrant, PrepaidTerms
from billing.prepaid import agree_prepaid


def grant_credits(story: Story, organisation: Organisation, *, start: datetime, now: datetime) -> None:
    """What is not granted yet; `start` is when the organisation's first period began."""
    done = set(CreditGrant.objects.for_organisation(organisation).values_list("reason", flat=True))
    for credit in story.credits:
        granted_at = (start if credit.after_days >= 0 else _today(now)) + timedelta(days=credit.after_days)
        if credit.reason in done or granted_at > now:
            continue
        grant_credit(
            organisation,
            kind=credit.kind,
            amount=Decimal(credit.amount),
            currency="USD",
            reason=credit.reason,
            priority=credit.priority,
            expires_at=granted_at + timedelta(days=credit.lasts_days) if credit.lasts_days else None,
            meters=credit.meters,
            now=granted_at,
            actor=ACTOR,
        )


def agree_on_paying_before(story: Story, organisation: Organisation, now: datetime) -> None:
    if story.is_prepaid and not PrepaidTerms.objects.filter(organisation=organisation).exists():
        agree_prepaid(organisation, overdraft=Decimal(0), now=now, actor=ACTOR)


def _today(now: datetime) -> datetime:
    """The day began; so that the world is the same all day."""
    return now.replace(hour=0, minute=0, second=0, microsecond=0)
