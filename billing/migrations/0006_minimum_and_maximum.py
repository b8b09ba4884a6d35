"""Minimum commitments and caps, and their lines on invoices."""

import django.contrib.postgres.fields
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("billing", "0005_volume_and_package"),
    ]

    operations = [
        migrations.AddField(
            model_name="pricecomponent",
            name="counted",
            field=django.contrib.postgres.fields.ArrayField(
                base_field=models.PositiveSmallIntegerField(), blank=True, default=list
            ),
        ),
        migrations.AlterField(
            model_name="invoiceline",
            name="kind",
            field=models.CharField(
                choices=[
                    ("flat_fee", "Flat fee"),
                    ("usage", "Usage"),
                    ("commitment", "Commitment or cap"),
                    ("adjustment", "Late usage of an earlier period"),
                    ("carry_over", "Carried over"),
                ],
                max_length=16,
            ),
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
                    models.Q(("kind__in", ("minimum", "maximum")), _negated=True),
                    models.Q(("amount__gte", 0), ("amount__isnull", False)),
                    _connector="OR",
                ),
                name="price_component_bound_has_amount",
            ),
        ),
    ]
