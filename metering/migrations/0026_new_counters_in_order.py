"""New counters are made in the order in which the others are locked."""

from importlib import import_module

from django.db import migrations

together = import_module("metering.migrations.0025_take_holds")

# Folding takes counters in one go, new and old ones in the order of their keys. A call that made the new ones first and
# came to the older ones then, while folding held an older one and came to a new one, waited in a circle. So where one
# has to be made, those that are there are locked on the way, by an update that changes nothing.
IN_ORDER = """
    IF EXISTS (
        SELECT FROM unnest(owners, quotas, subjects, starts) AS c (owner, quota, subject, start)
        WHERE (SELECT w.used FROM quota_window w WHERE w.organisation_id = c.owner AND w.quota_id = c.quota
                                                   AND w.subject = c.subject AND w.starts_at = c.start) IS NULL
    ) THEN
        INSERT INTO quota_window AS w (organisation_id, quota_id, subject, starts_at, ends_at, used, held)
        SELECT c.owner, c.quota, c.subject, c.start, c.finish, 0, 0
        FROM unnest(owners, quotas, subjects, starts, ends) AS c (owner, quota, subject, start, finish)
        ORDER BY c.owner, c.quota, c.subject, c.start
        ON CONFLICT (organisation_id, quota_id, subject, starts_at) DO UPDATE SET held = w.held WHERE false;
    END IF;
"""
ALL_LOCKED = """
    IF coalesce(cardinality(now_used), 0) < cardinality(owners) THEN
        RAISE EXCEPTION 'a counter was forgotten meanwhile' USING ERRCODE = 'serialization_failure';
    END IF;
"""
MAKE, LOCK, LOCKED = "    INSERT INTO quota_window", "    SELECT array_agg(w.used", "    ) AS w;\n"


def changed(function: str) -> str:
    """The function with another way to make counters, and a look after the locking."""
    head, _, rest = function.replace("CREATE FUNCTION", "CREATE OR REPLACE FUNCTION").partition(MAKE)
    _, _, rest = rest.partition(LOCK)
    locking, _, rest = rest.partition(LOCKED)
    return "".join((head, IN_ORDER[1:], LOCK, locking, LOCKED, ALL_LOCKED[1:], rest))


class Migration(migrations.Migration):
    dependencies = [("metering", "0025_take_holds")]

    operations = [
        migrations.RunSQL(
            changed(together.TAKE_HOLDS),
            together.TAKE_HOLDS.replace("CREATE FUNCTION", "CREATE OR REPLACE FUNCTION"),
        )
    ]
