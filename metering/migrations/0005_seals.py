"""Seals and their tiles, append-only; and no batch is taken into a day that is sealed."""

import django.db.models.deletion
from django.db import migrations, models

import metering.models.seals

# The function is made by accounts.0002_append_only.
APPEND_ONLY = """
CREATE TRIGGER seal_append_only BEFORE UPDATE OR DELETE ON metering_seal
    FOR EACH ROW EXECUTE FUNCTION refuse_change();
CREATE TRIGGER seal_tile_append_only BEFORE UPDATE OR DELETE ON metering_sealtile
    FOR EACH ROW EXECUTE FUNCTION refuse_change();
"""
NOT_APPEND_ONLY = """
DROP TRIGGER seal_tile_append_only ON metering_sealtile;
DROP TRIGGER seal_append_only ON metering_seal;
"""

# The lock makes sealing wait for batches that are not committed yet, and those wait for a seal that is not; after the
# wait the seal is seen. A serialisation failure is what intake answers with "send the same again", which gives the
# events a new time of receipt.
GUARD = """
CREATE FUNCTION refuse_sealed_day() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    received_on date := (NEW.received_at AT TIME ZONE 'UTC')::date;
BEGIN
    PERFORM pg_advisory_xact_lock_shared(
        hashtextextended('batch/' || NEW.organisation_id || '/' || received_on, 0));
    IF EXISTS (SELECT FROM metering_seal WHERE organisation_id = NEW.organisation_id AND day >= received_on) THEN
        RAISE EXCEPTION 'The events received on % are sealed: receive these anew.', received_on
            USING ERRCODE = 'serialization_failure';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER batch_of_open_day BEFORE INSERT OR UPDATE OF received_at, organisation_id ON ingest_batch
    FOR EACH ROW EXECUTE FUNCTION refuse_sealed_day();
"""
NO_GUARD = """
DROP TRIGGER batch_of_open_day ON ingest_batch;
DROP FUNCTION refuse_sealed_day();
"""


class Migration(migrations.Migration):
    dependencies = [
        ("accounts", "0004_member_ids_and_idempotency"),
        ("metering", "0004_totals"),
    ]

    operations = [
        migrations.CreateModel(
            name="Seal",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                (
                    "public_id",
                    models.CharField(default=metering.models.seals.seal_id, editable=False, max_length=32, unique=True),
                ),
                ("day", models.DateField()),
                ("event_count", models.PositiveBigIntegerField()),
                ("root", models.CharField(max_length=64)),
                ("previous_digest", models.CharField(max_length=64)),
                ("digest", models.CharField(max_length=64, unique=True)),
                ("sealed_at", models.DateTimeField()),
                (
                    "organisation",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT, related_name="+", to="accounts.organisation"
                    ),
                ),
            ],
            options={"ordering": ["-day"]},
        ),
        migrations.CreateModel(
            name="SealTile",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("position", models.PositiveIntegerField()),
                ("first_key", models.UUIDField()),
                ("root", models.BinaryField()),
                ("hints", models.BinaryField()),
                (
                    "seal",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT, related_name="tiles", to="metering.seal"
                    ),
                ),
            ],
            options={"ordering": ["seal", "position"]},
        ),
        migrations.AddConstraint(
            model_name="seal",
            constraint=models.UniqueConstraint(fields=("organisation", "day"), name="seal_once_per_day"),
        ),
        migrations.AddConstraint(
            model_name="seal",
            constraint=models.UniqueConstraint(fields=("organisation", "previous_digest"), name="seal_follows_once"),
        ),
        migrations.AddConstraint(
            model_name="seal",
            constraint=models.CheckConstraint(condition=models.Q(event_count__gt=0), name="seal_not_empty"),
        ),
        migrations.AddConstraint(
            model_name="sealtile",
            constraint=models.UniqueConstraint(fields=("seal", "position"), name="seal_tile_once"),
        ),
        migrations.RunSQL(APPEND_ONLY, NOT_APPEND_ONLY),
        migrations.RunSQL(GUARD, NO_GUARD),
    ]
