"""What billing rates: exact sums per meter and model between the instants at which prices or phases change."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from django.db import connection

from accounts.models import Organisation
from metering.aggregation.rebuilding import UnalignedRangeError
from metering.models.meters import ADDITIVE
from metering.quarter_hours import is_aligned

QUANTITIES = """
SELECT m.key, s.model, width_bucket(u.starts_at, %s::timestamptz[]) AS part, trim_scale(sum(u.value))
FROM usage_interval u
JOIN series s ON s.organisation_id = u.organisation_id AND s.id = u.series_id
JOIN metering_meter m ON m.id = s.meter_id
WHERE u.organisation_id = %s AND s.organisation_id = %s AND u.starts_at >= %s AND u.starts_at < %s
  AND m.aggregation = ANY(%s)
GROUP BY m.key, s.model, part ORDER BY m.key, s.model, part"""


@dataclass(frozen=True, slots=True)
class Quantity:
    """What one meter came to for one model in [start, end), a part of the range between two splits."""

    meter_key: str
    model: str
    start: datetime
    end: datetime
    value: Decimal


def quantities(
    organisation: Organisation, *, start: datetime, end: datetime, splits: Sequence[datetime] = ()
) -> list[Quantity]:
    """Sums of quarter hours in [start, end), cut at those splits that lie inside; additive meters only.

    Parts without usage have no entry. All instants must be quarter hours, so that no reading is ever divided.
    """
    inside = sorted({at for at in splits if start < at < end})
    edges = [start, *inside, end]
    if not all(is_aligned(at) for at in edges):
        raise UnalignedRangeError
    params: list[Any] = [edges[:-1], organisation.pk, organisation.pk, start, end, sorted(ADDITIVE)]
    with connection.cursor() as cursor:
        cursor.execute(QUANTITIES, params)
        rows = cursor.fetchall()
    return [Quantity(key, model, edges[part - 1], edges[part], value) for key, model, part, value in rows]
