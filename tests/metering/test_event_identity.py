"""The index that makes identities unique, in months from before and after it took the primary key's place."""

from datetime import date
from importlib import import_module

import pytest
from django.db import IntegrityError, connection, transaction
from django.utils import timezone

from metering.partitions import ensure_partitions, partition_name
from tests.metering.usage_world import event, send

pytestmark = pytest.mark.django_db(transaction=True)
COPY_ROW = "INSERT INTO event SELECT * FROM event LIMIT 1"


def indexes(partition: str) -> set[str]:
    with connection.cursor() as cursor:
        cursor.execute("SELECT indexname FROM pg_indexes WHERE tablename = %s", [partition])
        return {name for (name,) in cursor.fetchall()}


def test_every_month_has_its_index():
    (made,) = ensure_partitions([date(2031, 5, 1)])
    assert f"{made}_identity" in indexes(made)
    with connection.cursor() as cursor:
        cursor.execute(f"DROP TABLE {made}")


def test_there_and_back_an_identity_stays_unique(acme_key):
    migration = import_module("metering.migrations.0013_event_identity")
    now = timezone.now()
    send(event(acme_key.api_key.public_id, now, event_id="one"), now=now)
    partition = partition_name(now.date())

    for change in (migration.restore_primary_key, migration.replace_primary_key):
        with transaction.atomic():
            change(None, None)
        with pytest.raises(IntegrityError), transaction.atomic():
            connection.cursor().execute(COPY_ROW)
        assert (f"{partition}_identity" in indexes(partition)) is (change is migration.replace_primary_key)
        assert send(event(acme_key.api_key.public_id, now, event_id="one"), now=now)[0].verdict == "duplicate"
