"""Whose limits stand in metering, noted on the subscription."""

import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("billing", "0016_estimates_written"),
    ]

    operations = [
        migrations.AddField(
            model_name="subscription",
            name="limits_of",
            field=models.ForeignKey(
                blank=True,
                null=True,
                on_delete=django.db.models.deletion.PROTECT,
                related_name="+",
                to="billing.planversion",
            ),
        ),
    ]
