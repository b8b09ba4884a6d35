"""The nightly check's results, and room on the pages of totals for their updates."""

import django.core.serializers.json
from django.db import migrations, models

# Rows of the running quarter hour and day are rewritten every second or two: with room on the page the new version
# stays beside the old one and no index entry is written.
LEAVE_ROOM = "ALTER TABLE usage_interval SET (fillfactor = 80); ALTER TABLE usage_day SET (fillfactor = 70)"
LEAVE_NONE = "ALTER TABLE usage_interval RESET (fillfactor); ALTER TABLE usage_day RESET (fillfactor)"


class Migration(migrations.Migration):
    dependencies = [
        # Folding reads days_zone.
        ("accounts", "0003_organisation_days_zone"),
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
                ("detail", models.JSONField(default=list, encoder=django.core.serializers.json.DjangoJSONEncoder)),
            ],
            options={"ordering": ["-pk"]},
        ),
        migrations.RunSQL(LEAVE_ROOM, LEAVE_NONE),
    ]
