"""What corrections do to totals, append-only; and what became of a rejected event."""

import django.db.models.deletion
from django.db import migrations, models

# The function is made by accounts.0002_append_only.
APPEND_ONLY = """
CREATE TRIGGER event_correction_append_only BEFORE UPDATE OR DELETE ON event_correction
    FOR EACH ROW EXECUTE FUNCTION refuse_change()
"""
NOT_APPEND_ONLY = "DROP TRIGGER event_correction_append_only ON event_correction"


class Migration(migrations.Migration):
    dependencies = [
        ("accounts", "0005_cache_table"),
        ("metering", "0005_seals"),
    ]

    operations = [
        migrations.AddField(
            model_name="rejectedevent",
            name="settled_at",
            field=models.DateTimeField(null=True),
        ),
        migrations.AddField(
            model_name="rejectedevent",
            name="settlement",
            field=models.TextField(blank=True, db_default="", default=""),
        ),
        migrations.AlterField(
            model_name="rejectedevent",
            name="reason",
            field=models.CharField(
                choices=[
                    ("invalid_event", "Not a valid CloudEvent"),
                    ("invalid_value", "A metered value is not a finite number"),
                    ("unknown_subject", "Subject is not a known API key or organisation"),
                    ("too_old", "Older than the late window"),
                    ("in_future", "Further in the future than clocks may differ"),
                    ("conflict", "Same source and id as an accepted event, with another body"),
                    ("too_large", "Larger than an event may be"),
                    ("invalid_correction", "Not a correction that can be carried out"),
                    ("unknown_original", "Corrects an event that is not known"),
                    ("already_corrected", "Corrects an event that is corrected already"),
                ],
                max_length=32,
            ),
        ),
        migrations.CreateModel(
            name="Correction",
            fields=[
                (
                    "pk",
                    models.CompositePrimaryKey(
                        "organisation_id",
                        "original_key",
                        "original_month",
                        blank=True,
                        editable=False,
                        primary_key=True,
                        serialize=False,
                    ),
                ),
                ("original_key", models.UUIDField()),
                ("original_month", models.DateField()),
                ("original_batch_id", models.BigIntegerField()),
                ("key", models.UUIDField()),
                ("receipt_month", models.DateField()),
                ("batch_id", models.BigIntegerField()),
                ("type", models.TextField()),
                ("project_id", models.BigIntegerField()),
                ("api_key_id", models.BigIntegerField(null=True)),
                ("time", models.DateTimeField()),
                ("taken_back", models.JSONField()),
                ("counted_instead", models.JSONField(null=True)),
                (
                    "organisation",
                    models.ForeignKey(
                        db_constraint=False,
                        db_index=False,
                        on_delete=django.db.models.deletion.DO_NOTHING,
                        related_name="+",
                        to="accounts.organisation",
                    ),
                ),
            ],
            options={
                "db_table": "event_correction",
                "indexes": [
                    models.Index(fields=["batch_id"], name="event_correction_batch"),
                    models.Index(fields=["organisation", "time"], name="event_correction_time"),
                ],
                "constraints": [
                    models.UniqueConstraint(
                        fields=("organisation", "key", "receipt_month"), name="event_correction_once"
                    )
                ],
            },
        ),
        migrations.RunSQL(APPEND_ONLY, NOT_APPEND_ONLY),
    ]
