"""The meters of generative AI keep service tiers apart, so that prices for batch and priority apply out of the box.

Where nothing has been counted yet, from the beginning; elsewhere from the next quarter hour that no event can have
reached. Meters that an operator has changed stay as they are.
"""

from datetime import UTC, datetime
from importlib import import_module

from django.conf import settings
from django.db import migrations
from django.utils import timezone

KEPT = ["model", "service_tier"]


def keep_service_tiers(apps, schema_editor):
    Meter, MeterRevision = (apps.get_model("metering", name) for name in ("Meter", "MeterRevision"))
    keys = [row[0] for row in import_module("metering.migrations.0002_genai_meters").GENAI_METERS]
    untouched = Meter.objects.filter(key__in=keys, dimensions=["model"], tiers={}, revisions=None, archived_at=None)
    if not apps.get_model("metering", "IngestBatch").objects.exists():
        untouched.update(dimensions=KEPT)
        return
    at = _untouched_from(timezone.now())
    MeterRevision.objects.bulk_create(
        MeterRevision(meter=meter, effective_from=at, dimensions=KEPT, filters=meter.filters, tiers={})
        for meter in untouched
        if meter.effective_from < at
    )


def _untouched_from(now):
    """As `metering.defining` says: behind clocks that run ahead and folds that have begun."""
    seconds = now.timestamp() + settings.FUTURE_TOLERANCE_SECONDS + 300
    return datetime.fromtimestamp(-(-seconds // 900) * 900, tz=UTC)


class Migration(migrations.Migration):
    dependencies = [("metering", "0023_credit_alerts")]

    operations = [migrations.RunPython(keep_service_tiers, migrations.RunPython.noop)]
