from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [("accounts", "0009_admission_scope")]

    operations = [
        migrations.AlterModelOptions(
            name="organisation",
            options={
                "ordering": ["name", "pk"],
                "permissions": [("look_into_organisation", "Can look into an organisation's portal")],
            },
        ),
    ]
