"""Proposals for the price book, and the rows they would add."""

from decimal import Decimal

import django.core.serializers.json
import django.db.models.deletion
from django.db import migrations, models

import billing.models.price_proposals


class Migration(migrations.Migration):
    dependencies = [
        ("billing", "0012_price_corrections"),
        ("metering", "0009_all_aggregations"),
    ]

    operations = [
        migrations.CreateModel(
            name="PriceProposal",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                (
                    "public_id",
                    models.CharField(
                        default=billing.models.price_proposals.proposal_id, editable=False, max_length=32, unique=True
                    ),
                ),
                ("source", models.CharField(max_length=120)),
                ("made_at", models.DateTimeField()),
                ("made_by", models.CharField(max_length=254)),
                ("unchanged_count", models.PositiveIntegerField(default=0)),
                ("unmappable", models.JSONField(default=list, encoder=django.core.serializers.json.DjangoJSONEncoder)),
                (
                    "state",
                    models.CharField(
                        choices=[("open", "To decide"), ("accepted", "Accepted"), ("discarded", "Discarded")],
                        default="open",
                        max_length=16,
                    ),
                ),
                ("settled_at", models.DateTimeField(blank=True, null=True)),
            ],
            options={
                "ordering": ["-made_at"],
            },
        ),
        migrations.CreateModel(
            name="ProposedPrice",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                (
                    "kind",
                    models.CharField(
                        choices=[("list", "List price"), ("cost", "Provider cost")], default="list", max_length=8
                    ),
                ),
                ("model", models.CharField(blank=True, max_length=200)),
                ("currency", models.CharField(max_length=3)),
                ("amount", models.DecimalField(decimal_places=12, max_digits=30)),
                ("scale", models.DecimalField(decimal_places=6, default=Decimal("1000000"), max_digits=18)),
                ("valid_from", models.DateTimeField()),
                ("valid_until", models.DateTimeField(blank=True, null=True)),
                ("windows", models.CharField(blank=True, max_length=300)),
                ("service_tier", models.CharField(blank=True, max_length=32)),
                ("context_above", models.PositiveIntegerField(blank=True, null=True)),
                ("context_up_to", models.PositiveIntegerField(blank=True, null=True)),
                ("cache_ttl", models.CharField(blank=True, max_length=16)),
                ("region", models.CharField(blank=True, max_length=63)),
                ("position", models.PositiveIntegerField()),
                (
                    "change",
                    models.CharField(choices=[("new", "New"), ("changed", "Changed"), ("gone", "Gone")], max_length=16),
                ),
                ("is_selected", models.BooleanField(default=True)),
                (
                    "instead_of",
                    models.ForeignKey(
                        null=True, on_delete=django.db.models.deletion.PROTECT, related_name="+", to="billing.price"
                    ),
                ),
                (
                    "meter",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT, related_name="+", to="metering.meter"
                    ),
                ),
                (
                    "price",
                    models.OneToOneField(
                        null=True,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="proposed_as",
                        to="billing.price",
                    ),
                ),
                (
                    "proposal",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE, related_name="rows", to="billing.priceproposal"
                    ),
                ),
            ],
            options={
                "ordering": ["proposal", "position"],
                "constraints": [
                    models.UniqueConstraint(fields=("proposal", "position"), name="proposed_price_position_unique")
                ],
            },
        ),
    ]
