"""Weekly windows of price rows and price components."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("billing", "0007_percentage_and_cost_plus"),
    ]

    operations = [
        migrations.AddField(
            model_name="price",
            name="windows",
            field=models.CharField(blank=True, max_length=300),
        ),
        migrations.AddField(
            model_name="pricecomponent",
            name="windows",
            field=models.CharField(blank=True, max_length=300),
        ),
    ]
