from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("accounts", "0002_append_only")]

    operations = [
        migrations.AddField(
            model_name="organisation",
            name="days_zone",
            field=models.CharField(default="UTC", editable=False, max_length=64),
        ),
    ]
