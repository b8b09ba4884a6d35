"""Usage files uploaded in the admin: how far each is, its content in pieces, its refused lines."""

import django.db.models.deletion
import django.utils.timezone
from django.db import migrations, models

import metering.models.usage_imports


class Migration(migrations.Migration):
    dependencies = [
        ("accounts", "0007_audit_by_subject"),
        ("metering", "0009_all_aggregations"),
    ]

    operations = [
        migrations.CreateModel(
            name="UsageImport",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                (
                    "public_id",
                    models.CharField(
                        default=metering.models.usage_imports.import_id, editable=False, max_length=32, unique=True
                    ),
                ),
                (
                    "state",
                    models.CharField(
                        choices=[
                            ("uploaded", "Waits for a look at its columns"),
                            ("waiting", "Waits for a worker"),
                            ("running", "Being imported"),
                            ("done", "Imported"),
                            ("failed", "Could not be read to its end"),
                            ("cancelled", "Cancelled"),
                        ],
                        default="uploaded",
                        max_length=16,
                    ),
                ),
                ("file_name", models.CharField(max_length=255)),
                ("format", models.CharField(max_length=16)),
                ("digest", models.CharField(max_length=64)),
                ("byte_count", models.PositiveBigIntegerField()),
                ("lines", models.PositiveBigIntegerField()),
                ("present", models.JSONField(default=list)),
                ("columns", models.JSONField(default=dict)),
                ("source", models.CharField(blank=True, max_length=255)),
                ("event_type", models.CharField(max_length=255)),
                ("model", models.CharField(blank=True, max_length=255)),
                ("api_key", models.CharField(blank=True, max_length=32)),
                ("backfill", models.BooleanField(default=False)),
                ("lines_done", models.PositiveBigIntegerField(default=0)),
                ("accepted", models.PositiveBigIntegerField(default=0)),
                ("duplicates", models.PositiveBigIntegerField(default=0)),
                ("conflicts", models.PositiveBigIntegerField(default=0)),
                ("rejected", models.PositiveBigIntegerField(default=0)),
                ("error", models.TextField(blank=True)),
                ("created_at", models.DateTimeField(default=django.utils.timezone.now, editable=False)),
                ("confirmed_at", models.DateTimeField(null=True)),
                ("finished_at", models.DateTimeField(null=True)),
                ("leased_until", models.DateTimeField(null=True)),
                (
                    "organisation",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT, related_name="+", to="accounts.organisation"
                    ),
                ),
            ],
            options={
                "verbose_name": "usage file",
                "ordering": ["-pk"],
            },
        ),
        migrations.CreateModel(
            name="UsageImportPiece",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("position", models.PositiveIntegerField()),
                ("content", models.BinaryField()),
                (
                    "usage_import",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE, related_name="pieces", to="metering.usageimport"
                    ),
                ),
            ],
            options={
                "constraints": [
                    models.UniqueConstraint(fields=("usage_import", "position"), name="usage_import_piece_once")
                ],
            },
        ),
        migrations.CreateModel(
            name="UsageImportRefusal",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("line", models.PositiveBigIntegerField()),
                ("verdict", models.CharField(max_length=16)),
                ("reason", models.CharField(max_length=32)),
                ("detail", models.TextField()),
                ("body", models.TextField()),
                (
                    "usage_import",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE, related_name="refusals", to="metering.usageimport"
                    ),
                ),
            ],
            options={
                "ordering": ["usage_import", "line"],
                "constraints": [
                    models.UniqueConstraint(fields=("usage_import", "line"), name="usage_import_line_once")
                ],
            },
        ),
    ]
