"""Backfills of meters: the row is the job."""

import django.db.models.deletion
import django.utils.timezone
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("metering", "0014_alerts"),
    ]

    operations = [
        migrations.CreateModel(
            name="MeterBackfill",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("start", models.DateTimeField()),
                ("end", models.DateTimeField()),
                ("created_at", models.DateTimeField(default=django.utils.timezone.now, editable=False)),
                ("created_by", models.CharField(max_length=255)),
                ("organisations", models.PositiveIntegerField(default=0)),
                ("organisations_done", models.PositiveIntegerField(default=0)),
                ("organisation_id", models.BigIntegerField(null=True)),
                ("done_until", models.DateTimeField(null=True)),
                ("totals", models.PositiveBigIntegerField(default=0)),
                ("stepped_at", models.DateTimeField(null=True)),
                ("finished_at", models.DateTimeField(null=True)),
                (
                    "meter",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT, related_name="backfills", to="metering.meter"
                    ),
                ),
            ],
            options={
                "ordering": ["-pk"],
                "constraints": [
                    models.UniqueConstraint(
                        condition=models.Q(("finished_at", None)),
                        fields=("meter",),
                        name="meter_backfill_one_at_a_time",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("end__gt", models.F("start"))), name="meter_backfill_has_length"
                    ),
                ],
            },
        ),
    ]
