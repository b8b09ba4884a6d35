"""What was refused is found by the event's id."""

import django.contrib.postgres.indexes
from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [("metering", "0006_corrections")]

    operations = [
        migrations.AddIndex(
            model_name="rejectedevent",
            index=django.contrib.postgres.indexes.HashIndex(fields=["event_id"], name="rejected_event_name"),
        ),
    ]
