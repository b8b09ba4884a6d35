"""Telling billing whether totals that it has billed have changed since, exactly: it need not look at them to know.

Billing holds an organisation's totals still while it reads and bills them, and says up to when they are billed. From
then on whoever writes totals of before leaves a row in the same transaction. Numbers of rows follow the order in which
an organisation's totals were held still, so "newer than" has one meaning.
"""

from collections.abc import Collection, Iterable, Mapping
from datetime import datetime
from typing import NamedTuple

from django.db import OperationalError, connection, transaction
from django.db.models import Max
from psycopg.errors import LockNotAvailable

from accounts.errors import DomainError
from accounts.models import Organisation
from accounts.remembering import remember, remembered
from metering.aggregation.locks import LOCK_SPACE
from metering.models import BilledUsageChange

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
