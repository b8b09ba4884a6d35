"""What the counter of prepaid credit says: what was spent since it began, what calls hold, what is not metered yet.

Written by admission and folding like any other counter; billing reads it to say how far it may go.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal

from django.db import connection

from accounts.models import Organisation
from metering.models import Quota, QuotaWindow, SetBy

# An event that comes later than that after its call was settled is taken not to come at all.
EVENT_WITHIN = timedelta(hours=1)

SETTLED_WITHOUT_EVENT = """
SELECT coalesce(sum(u.value::numeric * (h.prices ->> u.key)::numeric), 0)
FROM hold h, jsonb_each_text(h.usage) u
WHERE h.organisation_id = %s AND h.state = 'settled' AND h.event_key IS NULL AND h.ended_at >= %s
  AND %s = ANY (h.quota_ids) AND h.prices ? u.key"""


@dataclass(frozen=True, slots=True)
class CreditCounter:
    used: Decimal
    held: Decimal
    # Of calls that were settled by the gateway, and whose events are still to come: in `used`, and on no bill yet.
    unmetered: Decimal


def credit_counter(organisation: Organisation, now: datetime) -> CreditCounter | None:
    """None where no limit of prepaid credit is in force."""
    quota = Quota.objects.for_organisation(organisation).active().filter(set_by=SetBy.CREDIT).first()
    if quota is None:
        return None
    row = QuotaWindow.objects.filter(organisation_id=organisation.pk, quota_id=quota.pk, subject="").first()
    with connection.cursor() as cursor:
        cursor.execute(SETTLED_WITHOUT_EVENT, [organisation.pk, now - EVENT_WITHIN, quota.pk])
        (unmetered,) = cursor.fetchone()
    return CreditCounter(row.used if row else Decimal(0), row.held if row else Decimal(0), unmetered)


def credit_left(organisation: Organisation) -> Decimal | None:
    """How far the counter is from its limit, without what calls hold; None where no such limit is in force."""
    quota = Quota.objects.for_organisation(organisation).active().filter(set_by=SetBy.CREDIT).first()
    if quota is None:
        return None
    row = QuotaWindow.objects.filter(organisation_id=organisation.pk, quota_id=quota.pk, subject="").first()
    return quota.amount - (row.used if row else Decimal(0))
