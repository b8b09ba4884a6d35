"""Telling billing whether totals that it has billed have changed since, exactly: it need not look at them to know.

Billing holds an organisation's totals still while it reads and bills them, and says up to when they are billed. From
then on whoever writes totals of before leaves a row in the same transaction. Numbers of rows follow the order in which
an organisation's totals were held still, so "newer than" has one meaning. Rows that no bill asks for any more become
one: it may say of more than what changed that it did, never of less.
"""

from collections.abc import Collection, Iterable, Mapping
from datetime import datetime, timedelta
from typing import NamedTuple

from django.db import OperationalError, connection, transaction
from django.db.models import Max
from psycopg.errors import LockNotAvailable

from accounts.errors import DomainError
from accounts.models import Organisation
from accounts.remembering import remember, remembered
from metering.aggregation.locks import LOCK_SPACE
from metering.models import BilledUsageChange

# Each bill asks what changed since the one before: a month, and as long again for an operator who closes late. Whoever
# asks for what changed in a longer time is told at worst that something did, and rates a period once more.
CHANGES_KEPT = timedelta(days=62)
MERGED_AT_ONCE = 10_000
# As long as a fold may take; what takes longer makes totals of a long time anew.
WAIT = "SET LOCAL lock_timeout = '10s'"
HOLD = "SELECT pg_advisory_xact_lock(%s, id) FROM unnest(%s::int[]) AS held (id)"
WAIT_AS_EVER = "SET LOCAL lock_timeout = DEFAULT"

BILLED = """
INSERT INTO billed_usage AS known (organisation_id, until)
SELECT * FROM unnest(%s::bigint[], %s::timestamptz[]) ORDER BY 1
ON CONFLICT (organisation_id) DO UPDATE SET until = excluded.until WHERE known.until < excluded.until"""

CHANGED = """
SELECT EXISTS (
    SELECT FROM billed_usage_change c
    WHERE c.organisation_id = asked.organisation_id AND c.id > asked.after
      AND c.starts_at < asked.ends_at AND c.ends_at > asked.starts_at)
FROM unnest(%s::bigint[], %s::timestamptz[], %s::timestamptz[], %s::bigint[]) WITH ORDINALITY
    AS asked (organisation_id, starts_at, ends_at, after, place)
ORDER BY place"""

# The newest of an organisation's oldest changes takes in the others.
MERGE = """
WITH old AS MATERIALIZED (
    SELECT id, starts_at, ends_at FROM billed_usage_change
    WHERE organisation_id = %s AND noticed_at < %s ORDER BY id LIMIT %s FOR UPDATE),
newest AS (SELECT max(id) AS id, min(starts_at) AS starts_at, max(ends_at) AS ends_at FROM old),
widened AS (
    UPDATE billed_usage_change c SET starts_at = n.starts_at, ends_at = n.ends_at FROM newest n WHERE c.id = n.id)
DELETE FROM billed_usage_change c USING old, newest n WHERE c.id = old.id AND c.id < n.id"""


class TotalsBeingMade(DomainError):
    code = "totals_being_made"
    sentence = "Totals of this usage are being made anew. Try again in a moment."


class Span(NamedTuple):
    """A stretch of an organisation's usage, and the newest change that is known."""

    organisation: Organisation
    start: datetime
    end: datetime
    after: int


def hold_totals(organisations: Collection[Organisation]) -> None:
    """Wait for running folds of these and keep all others away until the transaction ends. Raises TotalsBeingMade."""
    ids = sorted({organisation.pk for organisation in organisations})
    try:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute(WAIT)
            cursor.execute(HOLD, [LOCK_SPACE, ids])
            cursor.execute(WAIT_AS_EVER)
    except OperationalError as error:
        if isinstance(error.__cause__, LockNotAvailable):
            raise TotalsBeingMade from error
        raise


def note_billed(until: Mapping[Organisation, datetime]) -> None:
    """What was used before these instants is billed. The organisations' totals must be held."""
    with connection.cursor() as cursor:
        ids = [organisation.pk for organisation in until]
        cursor.execute(BILLED, [ids, list(until.values())])


@remembered
def newest_change(organisation: Organisation) -> int:
    """The number of the newest change of billed totals; 0 before the first. It says something while they are held."""
    return _newest_changes([organisation])[organisation]


@remembered
def has_changed(span: Span) -> bool:
    """Whether totals in it were written since then."""
    return _have_changed([span])[0]


def look_up_newest_changes(organisations: Collection[Organisation]) -> None:
    """Remember for many organisations at once what `newest_change` answers."""
    for organisation, number in _newest_changes(organisations).items():
        remember(newest_change, organisation, answer=number)


def look_up_changes(spans: Iterable[Span]) -> None:
    """Remember for many at once what `has_changed` answers."""
    asked = list(spans)
    for span, answer in zip(asked, _have_changed(asked), strict=True):
        remember(has_changed, span, answer=answer)


def merge_old_changes(now: datetime) -> int:
    """Make one of each organisation's changes that no bill asks for any more; how many rows went."""
    return merge_changes_before(now - CHANGES_KEPT)


def merge_changes_before(before: datetime) -> int:
    """Make one of each organisation's changes that were noticed before; any is as good, since the one says no less."""
    old = BilledUsageChange.objects.filter(noticed_at__lt=before).order_by("organisation_id")
    return sum(_merge(pk, before) for pk in list(old.values_list("organisation_id", flat=True).distinct()))


def _merge(organisation_id: int, before: datetime) -> int:
    merged, last = 0, MERGED_AT_ONCE
    with connection.cursor() as cursor:
        while last == MERGED_AT_ONCE:
            cursor.execute(MERGE, [organisation_id, before, MERGED_AT_ONCE + 1])
            last = int(cursor.rowcount)
            merged += last
    return merged


def _newest_changes(organisations: Collection[Organisation]) -> dict[Organisation, int]:
    rows = BilledUsageChange.objects.filter(organisation__in=organisations).order_by()
    newest = dict(rows.values_list("organisation").annotate(Max("pk")))
    return {organisation: newest.get(organisation.pk, 0) for organisation in organisations}


def _have_changed(spans: Collection[Span]) -> list[bool]:
    if not spans:
        return []
    with connection.cursor() as cursor:
        organisations, *columns = zip(*spans, strict=True)
        cursor.execute(CHANGED, [[one.pk for one in organisations], *map(list, columns)])
        return [has_changed for (has_changed,) in cursor.fetchall()]
