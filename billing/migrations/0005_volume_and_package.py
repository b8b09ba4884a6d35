"""Two more kinds of price component: volume tiers and packages."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("billing", "0004_invoice_email"),
    ]

    operations = [
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
                ],
                max_length=16,
            ),
        ),
        migrations.AddConstraint(
            model_name="pricecomponent",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    models.Q(("kind", "volume"), _negated=True), ("meter__isnull", False), _connector="OR"
                ),
                name="price_component_volume_has_meter",
            ),
        ),
        migrations.AddConstraint(
            model_name="pricecomponent",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    models.Q(("kind", "package"), _negated=True),
                    models.Q(("meter__isnull", False), ("unit_price__isnull", False)),
                    _connector="OR",
                ),
                name="price_component_package_complete",
            ),
        ),
    ]
