"""Trials, pauses and settling of subscriptions; any rhythm; plans for one organisation, with limits."""

import django.contrib.postgres.fields
import django.core.serializers.json
import django.db.models.deletion
from django.db import migrations, models

import billing.models.plans


class Migration(migrations.Migration):
    dependencies = [
        ("accounts", "0007_audit_by_subject"),
        ("billing", "0013_price_proposals"),
    ]

    operations = [
        migrations.AddField(
            model_name="plan",
            name="organisation",
            field=models.ForeignKey(
                blank=True,
                null=True,
                on_delete=django.db.models.deletion.PROTECT,
                related_name="+",
                to="accounts.organisation",
            ),
        ),
        migrations.AddField(
            model_name="planversion",
            name="allowed_models",
            field=django.contrib.postgres.fields.ArrayField(
                base_field=models.CharField(max_length=200), blank=True, default=list
            ),
        ),
        migrations.AddField(
            model_name="planversion",
            name="limits",
            field=models.JSONField(blank=True, default=list, encoder=django.core.serializers.json.DjangoJSONEncoder),
        ),
        migrations.AddField(
            model_name="planversion",
            name="trial_days",
            field=models.PositiveSmallIntegerField(default=0),
        ),
        migrations.AddField(
            model_name="subscription",
            name="settled_at",
            field=models.DateTimeField(blank=True, null=True),
        ),
        migrations.AddField(
            model_name="subscription",
            name="trial_ends_at",
            field=models.DateTimeField(blank=True, null=True),
        ),
        migrations.AddField(
            model_name="subscription",
            name="trial_reminded_at",
            field=models.DateTimeField(blank=True, null=True),
        ),
        migrations.AlterField(
            model_name="planversion",
            name="cadence",
            field=models.CharField(max_length=16, validators=[billing.models.plans.validate_cadence]),
        ),
        migrations.AlterField(
            model_name="subscription",
            name="cadence",
            field=models.CharField(max_length=16),
        ),
        migrations.CreateModel(
            name="SubscriptionPause",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("starts_at", models.DateTimeField()),
                ("ends_at", models.DateTimeField(blank=True, null=True)),
                ("reason", models.CharField(blank=True, max_length=200)),
                (
                    "subscription",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT, related_name="pauses", to="billing.subscription"
                    ),
                ),
            ],
            options={
                "ordering": ["subscription", "starts_at"],
                "constraints": [
                    models.UniqueConstraint(
                        condition=models.Q(("ends_at", None)),
                        fields=("subscription",),
                        name="subscription_one_pause_at_a_time",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("ends_at", None), ("ends_at__gt", models.F("starts_at")), _connector="OR"),
                        name="subscription_pause_not_empty",
                    ),
                ],
            },
        ),
    ]
