"""The table of Django's database cache. Unlogged: counters of rate limits may be lost with the server."""

from django.db import migrations

CREATE = """
CREATE UNLOGGED TABLE cache_entry (
    cache_key varchar(255) PRIMARY KEY,
    value text NOT NULL,
    expires timestamptz NOT NULL
);
CREATE INDEX cache_entry_expires ON cache_entry (expires);
"""


class Migration(migrations.Migration):
    dependencies = [("accounts", "0004_member_ids_and_idempotency")]

    operations = [migrations.RunSQL(CREATE, "DROP TABLE cache_entry")]
