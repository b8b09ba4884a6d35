from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("billing", "0002_frozen")]

    operations = [
        migrations.AddField("stripecustomer", "name", models.CharField(default="", max_length=200)),
        migrations.AddField("stripecustomer", "email", models.EmailField(default="", max_length=254)),
    ]
