"""What every aggregation keeps, conditions and tiers of meters, and revisions of meters."""

import django.contrib.postgres.fields
import django.db.models.deletion
import django.utils.timezone
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("accounts", "0006_api_key_restrictions"),
        ("metering", "0008_retention"),
    ]

    operations = [
        migrations.AddField(
            model_name="meter",
            name="filters",
            field=models.JSONField(blank=True, default=list),
        ),
        migrations.AddField(
            model_name="meter",
            name="tiers",
            field=models.JSONField(blank=True, default=dict),
        ),
        migrations.AddField(
            model_name="usageday",
            name="latest_at",
            field=models.DateTimeField(null=True),
        ),
        migrations.AddField(
            model_name="usageday",
            name="latest_key",
            field=models.UUIDField(null=True),
        ),
        migrations.AddField(
            model_name="usageinterval",
            name="latest_at",
            field=models.DateTimeField(null=True),
        ),
        migrations.AddField(
            model_name="usageinterval",
            name="latest_key",
            field=models.UUIDField(null=True),
        ),
        migrations.AlterField(
            model_name="meter",
            name="dimensions",
            field=django.contrib.postgres.fields.ArrayField(
                base_field=models.CharField(max_length=255), blank=True, default=list
            ),
        ),
        migrations.AlterField(
            model_name="meter",
            name="value_field",
            field=models.CharField(blank=True, max_length=255),
        ),
        migrations.CreateModel(
            name="UniqueDayValue",
            fields=[
                (
                    "pk",
                    models.CompositePrimaryKey(
                        "organisation_id",
                        "series_id",
                        "day",
                        "digest",
                        blank=True,
                        editable=False,
                        primary_key=True,
                        serialize=False,
                    ),
                ),
                ("series_id", models.UUIDField()),
                ("day", models.DateField()),
                ("digest", models.UUIDField()),
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
                "db_table": "usage_unique_day",
            },
        ),
        migrations.CreateModel(
            name="UniqueValue",
            fields=[
                (
                    "pk",
                    models.CompositePrimaryKey(
                        "organisation_id",
                        "series_id",
                        "starts_at",
                        "digest",
                        blank=True,
                        editable=False,
                        primary_key=True,
                        serialize=False,
                    ),
                ),
                ("series_id", models.UUIDField()),
                ("starts_at", models.DateTimeField()),
                ("digest", models.UUIDField()),
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
                "db_table": "usage_unique",
            },
        ),
        migrations.CreateModel(
            name="MeterRevision",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("effective_from", models.DateTimeField()),
                (
                    "dimensions",
                    django.contrib.postgres.fields.ArrayField(
                        base_field=models.CharField(max_length=255), blank=True, default=list
                    ),
                ),
                ("tiers", models.JSONField(blank=True, default=dict)),
                ("filters", models.JSONField(blank=True, default=list)),
                ("created_at", models.DateTimeField(default=django.utils.timezone.now, editable=False)),
                (
                    "meter",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT, related_name="revisions", to="metering.meter"
                    ),
                ),
            ],
            options={
                "ordering": ["meter", "effective_from"],
                "constraints": [
                    models.UniqueConstraint(fields=("meter", "effective_from"), name="meter_revision_once")
                ],
            },
        ),
    ]
