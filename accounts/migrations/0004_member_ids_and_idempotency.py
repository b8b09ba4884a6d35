import django.db.models.deletion
import django.utils.timezone
from django.db import migrations, models

import accounts.public_ids


class Migration(migrations.Migration):
    dependencies = [("accounts", "0003_organisation_days_zone")]

    operations = [
        migrations.AddField(
            model_name="membership",
            name="public_id",
            field=models.CharField(
                default=accounts.public_ids.membership_id, editable=False, max_length=32, unique=True
            ),
        ),
        migrations.CreateModel(
            name="IdempotentRequest",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("operation", models.CharField(max_length=64)),
                ("key", models.CharField(max_length=255)),
                ("fingerprint", models.CharField(max_length=64)),
                ("result_id", models.CharField(blank=True, max_length=64)),
                ("created_at", models.DateTimeField(default=django.utils.timezone.now, editable=False)),
                (
                    "organisation",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT, related_name="+", to="accounts.organisation"
                    ),
                ),
            ],
            options={
                "constraints": [
                    models.UniqueConstraint(fields=("organisation", "operation", "key"), name="idempotent_request_once")
                ],
            },
        ),
    ]
