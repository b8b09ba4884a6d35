"""Conditions of prices, rows that take the place of others, and what components are limited to and include."""

import django.contrib.postgres.fields
import django.core.serializers.json
import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("billing", "0010_margins"),
        ("metering", "0008_retention"),
    ]

    operations = [
        migrations.AddField(
            model_name="price",
            name="cache_ttl",
            field=models.CharField(blank=True, max_length=16),
        ),
        migrations.AddField(
            model_name="price",
            name="context_above",
            field=models.PositiveIntegerField(blank=True, null=True),
        ),
        migrations.AddField(
            model_name="price",
            name="context_up_to",
            field=models.PositiveIntegerField(blank=True, null=True),
        ),
        migrations.AddField(
            model_name="price",
            name="is_withdrawn",
            field=models.BooleanField(default=False),
        ),
        migrations.AddField(
            model_name="price",
            name="region",
            field=models.CharField(blank=True, max_length=63),
        ),
        migrations.AddField(
            model_name="price",
            name="service_tier",
            field=models.CharField(blank=True, max_length=32),
        ),
        migrations.AddField(
            model_name="price",
            name="supersedes",
            field=models.OneToOneField(
                blank=True,
                null=True,
                on_delete=django.db.models.deletion.PROTECT,
                related_name="superseded_by",
                to="billing.price",
            ),
        ),
        migrations.AddField(
            model_name="pricecomponent",
            name="only_labels",
            field=models.JSONField(blank=True, default=dict, encoder=django.core.serializers.json.DjangoJSONEncoder),
        ),
        migrations.AddField(
            model_name="pricecomponent",
            name="only_projects",
            field=django.contrib.postgres.fields.ArrayField(
                base_field=models.CharField(max_length=32), blank=True, default=list
            ),
        ),
        migrations.AddField(
            model_name="pricecomponent",
            name="shared_units",
            field=models.DecimalField(blank=True, decimal_places=6, max_digits=30, null=True),
        ),
        migrations.AddField(
            model_name="pricecomponent",
            name="shared_weights",
            field=models.JSONField(blank=True, default=dict, encoder=django.core.serializers.json.DjangoJSONEncoder),
        ),
        migrations.AddField(
            model_name="pricecomponent",
            name="split_by",
            field=django.contrib.postgres.fields.ArrayField(
                base_field=models.CharField(max_length=63), blank=True, default=list
            ),
        ),
        migrations.AddConstraint(
            model_name="price",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    ("context_up_to", None),
                    models.Q(("context_above", None), ("context_up_to__gt", 0)),
                    ("context_up_to__gt", models.F("context_above")),
                    _connector="OR",
                ),
                name="price_context_not_empty",
            ),
        ),
        migrations.AddConstraint(
            model_name="price",
            constraint=models.CheckConstraint(
                condition=models.Q(("is_withdrawn", False), ("supersedes__isnull", False), _connector="OR"),
                name="price_withdrawn_supersedes",
            ),
        ),
    ]
