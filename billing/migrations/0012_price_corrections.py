"""Corrections of prices in closed periods, append-only, and by which book an invoice was priced."""

import django.db.models.deletion
from django.db import migrations, models

import billing.models.price_corrections

FREEZE = """
CREATE TRIGGER price_correction_append_only BEFORE UPDATE OR DELETE ON billing_pricecorrection
    FOR EACH ROW EXECUTE FUNCTION refuse_change();

CREATE TRIGGER corrected_invoice_append_only BEFORE UPDATE OR DELETE ON billing_correctedinvoice
    FOR EACH ROW EXECUTE FUNCTION refuse_change();
"""
REVERSE = """
DROP TRIGGER corrected_invoice_append_only ON billing_correctedinvoice;
DROP TRIGGER price_correction_append_only ON billing_pricecorrection;
"""


class Migration(migrations.Migration):
    dependencies = [
        ("accounts", "0006_api_key_restrictions"),
        ("billing", "0011_price_conditions"),
    ]

    operations = [
        migrations.AddField(
            model_name="invoice",
            name="prices_known_at",
            field=models.DateTimeField(blank=True, null=True),
        ),
        migrations.CreateModel(
            name="PriceCorrection",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                (
                    "public_id",
                    models.CharField(
                        default=billing.models.price_corrections.correction_id,
                        editable=False,
                        max_length=32,
                        unique=True,
                    ),
                ),
                ("starts_at", models.DateTimeField()),
                ("ends_at", models.DateTimeField()),
                ("known_at", models.DateTimeField()),
                ("made_at", models.DateTimeField()),
                ("reason", models.CharField(max_length=500)),
                (
                    "organisation",
                    models.ForeignKey(
                        blank=True,
                        null=True,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="+",
                        to="accounts.organisation",
                    ),
                ),
            ],
            options={
                "ordering": ["-made_at"],
            },
        ),
        migrations.CreateModel(
            name="CorrectedInvoice",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("difference", models.DecimalField()),
                (
                    "after",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT, related_name="+", to="billing.invoice"
                    ),
                ),
                (
                    "invoice",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT, related_name="corrections", to="billing.invoice"
                    ),
                ),
                (
                    "correction",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="invoices",
                        to="billing.pricecorrection",
                    ),
                ),
            ],
        ),
        migrations.AddConstraint(
            model_name="pricecorrection",
            constraint=models.CheckConstraint(
                condition=models.Q(("ends_at__gt", models.F("starts_at"))), name="price_correction_not_empty"
            ),
        ),
        migrations.AddConstraint(
            model_name="correctedinvoice",
            constraint=models.UniqueConstraint(
                fields=("correction", "invoice"), name="corrected_invoice_once_per_correction"
            ),
        ),
        migrations.RunSQL(FREEZE, REVERSE),
    ]
