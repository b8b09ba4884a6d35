from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("accounts", "0006_api_key_restrictions")]

    operations = [
        migrations.AddIndex(
            model_name="auditentry",
            index=models.Index(fields=["subject_id", "-id"], name="audit_by_subject"),
        ),
    ]
