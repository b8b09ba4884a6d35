"""Organisations that used what one of them did, times a number of their own: totals as folding and a stream of events
would have left them, without the events. Making a thousand histories from events takes longer than closing them.
"""

from collections.abc import Sequence
from itertools import batched

from django.db import connection, transaction

from accounts.copying import copy_rows
from accounts.models import ApiKey, Organisation, Project
from metering.aggregation.statement import SERIES_ID
from tests.benchmarks import progress

AT_ONCE = 100

# The first organisation's series, each for the key and project that stand in place of its own.
SERIES = f"""
CREATE TEMPORARY TABLE copied ON COMMIT DROP AS
SELECT m.id AS of, r.organisation_id, {SERIES_ID} AS id, r.times, m.meter_id, r.project_id, r.api_key_id, m.model,
       m.labels
FROM series m
JOIN unnest(%s::bigint[], %s::bigint[], %s::bigint[], %s::bigint[], %s::int[])
    AS r (of_key, organisation_id, project_id, api_key_id, times) ON r.of_key = m.api_key_id
WHERE m.organisation_id = %s"""
COPIED_SERIES = """
INSERT INTO series (organisation_id, id, meter_id, project_id, api_key_id, model, labels)
SELECT organisation_id, id, meter_id, project_id, api_key_id, model, labels FROM copied ORDER BY 1, 2"""
COPIED_TOTALS = """
INSERT INTO {table} (organisation_id, series_id, {time}, value, count)
SELECT c.organisation_id, c.id, u.{time}, u.value * c.times, u.count
FROM copied c JOIN {table} u ON u.series_id = c.of WHERE u.organisation_id = %s ORDER BY 1, 3, 2"""
TOTALS = {"usage_interval": "starts_at", "usage_day": "day"}


def add_keys(organisations: Sequence[Organisation], each: int) -> None:
    """Keys without secrets: nobody presents them."""
    projects = Project.objects.filter(organisation__in=organisations, is_default=True).order_by("organisation")
    copy_rows(
        [
            ApiKey(organisation_id=project.organisation_id, project=project, name=f"Key {number}")
            for project in projects
            for number in range(each)
        ]
    )


def copy_totals(of: Organisation, organisations: Sequence[Organisation]) -> None:
    """Give the others the totals of one, which must have as many keys as each of them."""
    keys = _keys([of, *organisations])
    first = [pk for pk, _ in keys[of.pk]]
    for done, some in enumerate(batched(organisations, AT_ONCE, strict=False)):
        progress.say(f"copies for {done * AT_ONCE} of {len(organisations)} organisations")
        rows = [
            (of_key, one.pk, project, key, 1 + one.pk % 97)
            for one in some
            for of_key, (key, project) in zip(first, keys[one.pk], strict=True)
        ]
        _copy(of, rows)


@transaction.atomic
def _copy(of: Organisation, rows: Sequence[tuple[int, int, int, int, int]]) -> None:
    with connection.cursor() as cursor:
        cursor.execute(SERIES, [*(list(column) for column in zip(*rows, strict=True)), of.pk])
        cursor.execute(COPIED_SERIES)
        for table, time in TOTALS.items():
            cursor.execute(COPIED_TOTALS.format(table=table, time=time), [of.pk])


def _keys(organisations: Sequence[Organisation]) -> dict[int, list[tuple[int, int]]]:
    """(key, project) of each, in the order of keys."""
    found: dict[int, list[tuple[int, int]]] = {}
    rows = ApiKey.objects.filter(organisation__in=organisations).order_by("pk")
    for organisation, key, project in rows.values_list("organisation_id", "pk", "project_id"):
        found.setdefault(organisation, []).append((key, project))
    return found
