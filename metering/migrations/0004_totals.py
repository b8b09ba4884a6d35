"""The zone that days are kept in, the nightly check's results, and room on the pages of totals for their updates."""

import django.db.models.deletion
from django.db import migrations, models

# Rows of the running quarter hour and day are rewritten every second or two: with room on the page the new version
# stays beside the old one and no index entry is written.
LEAVE_ROOM = "ALTER TABLE usage_interval SET (fillfactor = 80); ALTER TABLE usage_day SET (fillfactor = 70)"
LEAVE_NONE = "ALTER TABLE usage_interval RESET (fillfactor); ALTER TABLE usage_day RESET (fillfactor)"


class Migration(migrations.Migration):
    dependencies = [
        ("accounts", "0002_append_only"),
        ("metering", "0003_event_partitions"),
    ]

    operations = [
        migrations.CreateModel(
            name="TotalsCheck",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("started_at", models.DateTimeField()),
                ("finished_at", models.DateTimeField()),
                ("differences", models.PositiveIntegerField()),
                ("detail", models.JSONField(default=list)),
            ],
            options={"ordering": ["-pk"]},
        ),
        migrations.CreateModel(
            name="UsageDayZone",
            fields=[
                (
                    "organisation",
                    models.OneToOneField(
                        db_constraint=False,
                        on_delete=django.db.models.deletion.DO_NOTHING,
                        primary_key=True,
                        related_name="+",
                        serialize=False,
                        to="accounts.organisation",
                    ),
                ),
                ("time_zone", models.CharField(max_length=64)),
            ],
            options={"db_table": "usage_day_zone"},
        ),
        migrations.RunSQL(LEAVE_ROOM, LEAVE_NONE),
    ]
