"""What last bills below zero become, and credit that was paid back."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("billing", "0024_plan_credit"),
    ]

    operations = [
        migrations.AlterField(
            model_name="creditgrant",
            name="kind",
            field=models.CharField(
                choices=[
                    ("manual", "Manual"),
                    ("promotional", "Promotional"),
                    ("plan", "Comes with the plan"),
                    ("purchased", "Purchased"),
                    ("owed", "From a last bill"),
                ],
                max_length=16,
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
                    ("discount", "Discount"),
                    ("adjustment", "Late usage of an earlier period"),
                    ("credit", "Credit"),
                    ("carry_over", "Carried over"),
                    ("owed", "Owed to the customer"),
                ],
                max_length=16,
            ),
        ),
        migrations.AlterField(
            model_name="ledgertransaction",
            name="kind",
            field=models.CharField(
                choices=[
                    ("granted", "Granted"),
                    ("used", "Used"),
                    ("expired", "Expired"),
                    ("reversed", "Reversed"),
                    ("paid_back", "Paid back"),
                ],
                max_length=16,
            ),
        ),
    ]
