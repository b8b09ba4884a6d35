"""The credit of the demo's organisations, granted through the verb at the instants of their stories."""

from datetime import datetime, timedelta
from decimal import Decimal

from accounts.models import Organisation
from billing.crediting import grant_credit
from billing.demo.offers import ACTOR
from billing.demo.stories import Story
from billing.models import CreditGrant


def grant_credits(story: Story, organisation: Organisation, *, start: datetime, now: datetime) -> None:
    """What is not granted yet; `start` is when the organisation's first period began."""
    done = set(CreditGrant.objects.for_organisation(organisation).values_list("reason", flat=True))
    for credit in story.credits:
        granted_at = start + timedelta(days=credit.after_days)
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
