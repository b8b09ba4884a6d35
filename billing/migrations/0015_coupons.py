"""Coupons, who redeemed them, and their lines on bills."""

import django.db.models.deletion
import django.utils.timezone
from django.db import migrations, models

import billing.models.coupons


class Migration(migrations.Migration):
    dependencies = [
        ("accounts", "0008_notices"),
        ("billing", "0014_trials_pauses_and_cadences"),
    ]

    operations = [
        migrations.AlterField(
            model_name="invoiceline",
            name="kind",
            field=models.CharField(
                choices=[
                    ("flat_fee", "Flat fee"),
                    ("usage", "Usage"),
                    ("commitment", "Commitment or cap"),
                    ("discount", "Discount"),
                    ("adjustment", "Late usage of an earlier period"),
                    ("carry_over", "Carried over"),
                ],
                max_length=16,
            ),
        ),
        migrations.CreateModel(
            name="Coupon",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                (
                    "public_id",
                    models.CharField(
                        default=billing.models.coupons.coupon_id, editable=False, max_length=32, unique=True
                    ),
                ),
                ("code", models.CharField(max_length=40, unique=True)),
                ("name", models.CharField(max_length=120)),
                ("percent", models.DecimalField(blank=True, decimal_places=6, max_digits=9, null=True)),
                ("amount", models.DecimalField(blank=True, decimal_places=6, max_digits=20, null=True)),
                ("currency", models.CharField(blank=True, max_length=3)),
                (
                    "duration",
                    models.CharField(
                        choices=[
                            ("once", "Once: one period"),
                            ("periods", "A number of periods"),
                            ("forever", "For as long as the subscription lasts"),
                        ],
                        default="once",
                        max_length=16,
                    ),
                ),
                ("periods", models.PositiveSmallIntegerField(blank=True, null=True)),
                ("expires_at", models.DateTimeField(blank=True, null=True)),
                ("most_redemptions", models.PositiveIntegerField(blank=True, null=True)),
                ("most_per_organisation", models.PositiveSmallIntegerField(default=1)),
                ("redeemed", models.PositiveIntegerField(default=0, editable=False)),
                ("created_at", models.DateTimeField(default=django.utils.timezone.now, editable=False)),
                ("archived_at", models.DateTimeField(blank=True, null=True)),
            ],
            options={
                "ordering": ["-created_at", "-pk"],
                "constraints": [
                    models.CheckConstraint(
                        condition=models.Q(
                            models.Q(
                                ("amount", None),
                                ("currency", ""),
                                ("percent__gt", 0),
                                ("percent__isnull", False),
                                ("percent__lte", 100),
                            ),
                            models.Q(
                                ("amount__gt", 0),
                                ("amount__isnull", False),
                                ("percent", None),
                                models.Q(("currency", ""), _negated=True),
                            ),
                            _connector="OR",
                        ),
                        name="coupon_percent_or_amount",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(
                            models.Q(("duration", "periods"), ("periods__gt", 0), ("periods__isnull", False)),
                            models.Q(models.Q(("duration", "periods"), _negated=True), ("periods", None)),
                            _connector="OR",
                        ),
                        name="coupon_periods_where_they_count",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(
                            ("most_redemptions", None), ("redeemed__lte", models.F("most_redemptions")), _connector="OR"
                        ),
                        name="coupon_within_its_limit",
                    ),
                ],
            },
        ),
        migrations.CreateModel(
            name="CouponRedemption",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                (
                    "public_id",
                    models.CharField(
                        default=billing.models.coupons.redemption_id, editable=False, max_length=32, unique=True
                    ),
                ),
                ("redeemed_at", models.DateTimeField()),
                ("starts_at", models.DateTimeField()),
                ("withdrawn_at", models.DateTimeField(blank=True, null=True)),
                (
                    "coupon",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT, related_name="redemptions", to="billing.coupon"
                    ),
                ),
                (
                    "organisation",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT, related_name="+", to="accounts.organisation"
                    ),
                ),
                (
                    "subscription",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="redemptions",
                        to="billing.subscription",
                    ),
                ),
            ],
            options={
                "ordering": ["pk"],
            },
        ),
    ]
