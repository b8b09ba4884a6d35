"""A scope for those who change subscriptions and coupons."""

import django.contrib.postgres.fields
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("accounts", "0013_credits_scope"),
    ]

    operations = [
        migrations.AlterField(
            model_name="accesstoken",
            name="scopes",
            field=django.contrib.postgres.fields.ArrayField(
                base_field=models.CharField(
                    choices=[
                        ("events:write", "Send usage events"),
                        ("usage:read", "Read usage"),
                        ("billing:read", "Read bills and invoices"),
                        ("billing:write", "Change subscriptions and coupons"),
                        ("credits:write", "Grant credit and take it back"),
                        ("admission:write", "Admit calls and report how they ended"),
                        ("limits:write", "Set, change and lift limits"),
                        ("meters:write", "Define and change meters"),
                        ("keys:read", "List API keys"),
                        ("keys:write", "Create, rotate and revoke API keys"),
                    ],
                    max_length=32,
                )
            ),
        ),
        migrations.AlterField(
            model_name="servicetoken",
            name="scopes",
            field=django.contrib.postgres.fields.ArrayField(
                base_field=models.CharField(
                    choices=[
                        ("events:write", "Send usage events"),
                        ("usage:read", "Read usage"),
                        ("billing:read", "Read bills and invoices"),
                        ("billing:write", "Change subscriptions and coupons"),
                        ("credits:write", "Grant credit and take it back"),
                        ("admission:write", "Admit calls and report how they ended"),
                        ("limits:write", "Set, change and lift limits"),
                        ("meters:write", "Define and change meters"),
                        ("keys:read", "List API keys"),
                        ("keys:write", "Create, rotate and revoke API keys"),
                    ],
                    max_length=32,
                )
            ),
        ),
    ]
