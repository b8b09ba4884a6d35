"""The partitions of last month, this month and the next three; beat and intake make the others."""

from django.db import migrations

from metering.partitions import ensure_event_partitions


def make_partitions(apps, schema_editor):
    ensure_event_partitions()


class Migration(migrations.Migration):
    dependencies = [("metering", "0002_genai_meters")]

    # Undone with the table itself, which takes its partitions along.
    operations = [migrations.RunPython(make_partitions, migrations.RunPython.noop)]
