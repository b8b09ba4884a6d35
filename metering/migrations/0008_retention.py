"""Which months were dropped, and from when on a comparison of totals could look at events."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("metering", "0007_rejected_event_name")]

    operations = [
        migrations.CreateModel(
            name="DroppedMonth",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("month", models.DateField(unique=True)),
                ("event_count", models.PositiveBigIntegerField()),
                ("last_time", models.DateTimeField(null=True)),
                ("archive", models.TextField(blank=True)),
                ("archive_digest", models.CharField(blank=True, max_length=64)),
                ("started_at", models.DateTimeField()),
                ("dropped_at", models.DateTimeField(null=True)),
            ],
            options={"ordering": ["-month"]},
        ),
        migrations.AddField(
            model_name="totalscheck",
            name="events_kept_from",
            field=models.DateTimeField(null=True),
        ),
    ]
