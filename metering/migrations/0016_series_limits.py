"""When series were first seen, and where there were too many."""

import django.contrib.postgres.indexes
import django.db.models.deletion
import django.db.models.functions.datetime
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("accounts", "0011_meters_scope"),
        ("metering", "0015_meter_backfills"),
    ]

    operations = [
        migrations.CreateModel(
            name="SeriesLimit",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("starts_at", models.DateTimeField()),
                ("ends_at", models.DateTimeField()),
                ("series", models.PositiveIntegerField()),
                ("noticed_at", models.DateTimeField()),
            ],
            options={
                "ordering": ["-pk"],
            },
        ),
        migrations.AddField(
            model_name="series",
            name="first_seen_at",
            field=models.DateTimeField(db_default=django.db.models.functions.datetime.Now()),
        ),
        migrations.AddIndex(
            model_name="series",
            index=django.contrib.postgres.indexes.BrinIndex(fields=["first_seen_at"], name="series_first_seen"),
        ),
        migrations.AddField(
            model_name="serieslimit",
            name="meter",
            field=models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name="+", to="metering.meter"),
        ),
        migrations.AddField(
            model_name="serieslimit",
            name="organisation",
            field=models.ForeignKey(
                db_constraint=False,
                db_index=False,
                on_delete=django.db.models.deletion.DO_NOTHING,
                related_name="+",
                to="accounts.organisation",
            ),
        ),
        migrations.AddConstraint(
            model_name="serieslimit",
            constraint=models.UniqueConstraint(fields=("organisation", "meter", "ends_at"), name="series_limit_once"),
        ),
    ]
