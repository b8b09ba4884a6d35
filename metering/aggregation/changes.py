"""Noting that totals were written which are billed already. Whoever writes totals says so, in the same transaction and
under the organisation's lock."""

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

NOTE = """
INSERT INTO billed_usage_change (organisation_id, starts_at, ends_at)
SELECT organisation_id, min(starts_at), max(ends_at)
FROM unnest(%s::bigint[], %s::timestamptz[], %s::timestamptz[]) AS written (organisation_id, starts_at, ends_at)
JOIN billed_usage b USING (organisation_id)
WHERE starts_at < b.until
GROUP BY organisation_id ORDER BY organisation_id"""

# From before the first event there can be until after the last.
EVER = datetime(1970, 1, 1, tzinfo=UTC), datetime(9999, 1, 1, tzinfo=UTC)


def note_written(cursor: Any, written: Iterable[tuple[int, datetime, datetime]]) -> None:
    """Totals of these organisations were written somewhere in these times; what is not billed yet is passed over."""
    rows = list(written)
    if rows:
        cursor.execute(NOTE, [list(column) for column in zip(*rows, strict=True)])
