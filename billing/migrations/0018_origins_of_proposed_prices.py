"""Whose price a proposed price is."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("billing", "0017_limits_in_metering"),
    ]

    operations = [
        migrations.AddField(
            model_name="proposedprice",
            name="origin",
            field=models.CharField(blank=True, max_length=200),
        ),
    ]
