"""Shares of a metered amount, and provider cost with a markup."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("billing", "0006_minimum_and_maximum"),
        ("metering", "0007_rejected_event_name"),
    ]

    operations = [
        migrations.AddField(
            model_name="pricecomponent",
            name="ceiling",
            field=models.DecimalField(blank=True, decimal_places=12, max_digits=30, null=True),
        ),
        migrations.AddField(
            model_name="pricecomponent",
            name="floor",
            field=models.DecimalField(blank=True, decimal_places=12, max_digits=30, null=True),
        ),
        migrations.AddField(
            model_name="pricecomponent",
            name="percent",
            field=models.DecimalField(blank=True, decimal_places=6, max_digits=12, null=True),
        ),
        migrations.AlterField(
            model_name="pricecomponent",
            name="kind",
            field=models.CharField(
                choices=[
                    ("flat_fee", "Flat fee per period"),
                    ("per_unit", "Per unit"),
                    ("graduated", "Graduated tiers"),
                    ("volume", "Volume: all units at the tier reached"),
                    ("package", "Packages: per started block"),
                    ("rate_card", "Price book by model"),
                    ("percentage", "Percentage of a metered amount"),
                    ("cost_plus", "Provider cost with a markup"),
                    ("minimum", "Minimum commitment"),
                    ("maximum", "Maximum (cap)"),
                ],
                max_length=16,
            ),
        ),
        migrations.AddConstraint(
            model_name="pricecomponent",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    models.Q(("kind", "percentage"), _negated=True),
                    models.Q(("meter__isnull", False), ("percent__gte", 0), ("percent__isnull", False)),
                    _connector="OR",
                ),
                name="price_component_percentage_complete",
            ),
        ),
        migrations.AddConstraint(
            model_name="pricecomponent",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    ("floor", None), ("ceiling", None), ("floor__lte", models.F("ceiling")), _connector="OR"
                ),
                name="price_component_floor_below_ceiling",
            ),
        ),
    ]
