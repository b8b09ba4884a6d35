import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("accounts", "0006_api_key_restrictions"),
        ("billing", "0015_coupons"),
    ]

    operations = [
        migrations.CreateModel(
            name="EstimatesWritten",
            fields=[
                (
                    "organisation",
                    models.OneToOneField(
                        on_delete=django.db.models.deletion.CASCADE,
                        primary_key=True,
                        related_name="estimates_written",
                        serialize=False,
                        to="accounts.organisation",
                    ),
                ),
                ("written_at", models.DateTimeField()),
                ("book_known_at", models.DateTimeField(null=True)),
            ],
            options={"verbose_name_plural": "estimates written"},
        ),
    ]
