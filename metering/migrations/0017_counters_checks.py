"""The nightly comparison of counters leaves a row; leaked holds are found by an index."""

import django.core.serializers.json
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("metering", "0016_series_limits"),
    ]

    operations = [
        migrations.CreateModel(
            name="CountersCheck",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("started_at", models.DateTimeField()),
                ("finished_at", models.DateTimeField()),
                ("differences", models.PositiveIntegerField()),
                (
                    "detail",
                    models.JSONField(default=list, encoder=django.core.serializers.json.DjangoJSONEncoder),
                ),
            ],
            options={"ordering": ["-pk"]},
        ),
        migrations.AddIndex(
            model_name="hold",
            index=models.Index(condition=models.Q(("state", "expired")), fields=["ended_at"], name="hold_leaked"),
        ),
    ]
