"""Moves of subscribers to another version, a row for each."""

import django.db.models.deletion
import django.utils.timezone
from django.db import migrations, models

import billing.models.plan_moves


class Migration(migrations.Migration):
    dependencies = [
        ("accounts", "0011_meters_scope"),
        ("billing", "0018_origins_of_proposed_prices"),
    ]

    operations = [
        migrations.CreateModel(
            name="PlanMove",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                (
                    "public_id",
                    models.CharField(
                        default=billing.models.plan_moves.plan_move_id, editable=False, max_length=32, unique=True
                    ),
                ),
                (
                    "takes_effect",
                    models.CharField(
                        choices=[("period_end", "When each one's period ends"), ("date", "On a date")],
                        default="period_end",
                        max_length=16,
                    ),
                ),
                ("takes_effect_at", models.DateTimeField(blank=True, null=True)),
                ("is_announced", models.BooleanField(default=False)),
                (
                    "state",
                    models.CharField(
                        choices=[
                            ("planned", "Planned"),
                            ("running", "Running"),
                            ("paused", "Paused"),
                            ("done", "Done"),
                            ("cancelled", "Cancelled"),
                        ],
                        default="planned",
                        max_length=16,
                    ),
                ),
                ("created_at", models.DateTimeField(default=django.utils.timezone.now, editable=False)),
                ("started_at", models.DateTimeField(blank=True, null=True)),
                ("finished_at", models.DateTimeField(blank=True, null=True)),
                (
                    "from_version",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT, related_name="+", to="billing.planversion"
                    ),
                ),
                (
                    "to_version",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT, related_name="+", to="billing.planversion"
                    ),
                ),
            ],
            options={
                "ordering": ["-created_at", "-pk"],
            },
        ),
        migrations.CreateModel(
            name="PlanMoveRow",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                (
                    "state",
                    models.CharField(
                        choices=[("waiting", "Waiting"), ("moved", "Moved"), ("skipped", "Left as it is")],
                        default="waiting",
                        max_length=16,
                    ),
                ),
                ("before_minor", models.BigIntegerField(blank=True, null=True)),
                ("after_minor", models.BigIntegerField(blank=True, null=True)),
                ("previewed_at", models.DateTimeField(blank=True, null=True)),
                ("note", models.CharField(blank=True, max_length=300)),
                ("moved_at", models.DateTimeField(blank=True, null=True)),
                ("announced_at", models.DateTimeField(blank=True, null=True)),
                (
                    "move",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT, related_name="rows", to="billing.planmove"
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
                        on_delete=django.db.models.deletion.PROTECT, related_name="+", to="billing.subscription"
                    ),
                ),
            ],
            options={
                "ordering": ["move", "pk"],
            },
        ),
        migrations.AddConstraint(
            model_name="planmove",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    models.Q(("takes_effect", "date"), ("takes_effect_at__isnull", False)),
                    models.Q(("takes_effect", "period_end"), ("takes_effect_at", None)),
                    _connector="OR",
                ),
                name="plan_move_date_where_it_counts",
            ),
        ),
        migrations.AddConstraint(
            model_name="planmove",
            constraint=models.CheckConstraint(
                condition=models.Q(("from_version", models.F("to_version")), _negated=True),
                name="plan_move_to_another_version",
            ),
        ),
        migrations.AddConstraint(
            model_name="planmoverow",
            constraint=models.UniqueConstraint(fields=("move", "subscription"), name="plan_move_row_once"),
        ),
    ]
