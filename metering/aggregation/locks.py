"""Who may write an organisation's totals: any number of folds side by side, or one rebuild alone.

Advisory locks of the transaction, one per organisation. Folding only ever tries (what is being rebuilt waits for the
next round), so it never waits for a lock while it holds batches.
"""

from typing import Any

# Keeps these apart from any other advisory lock in the database; "tot" in ASCII.
LOCK_SPACE = 0x746F74

# For the WHERE of a query that claims work of an organisation.
MAY_FOLD = "pg_try_advisory_xact_lock_shared(%s, organisation_id::int)"
REBUILD_ALONE = "SELECT pg_advisory_xact_lock(%s, %s)"


def rebuild_alone(cursor: Any, organisation_id: int) -> None:
    """Wait for the running folds of an organisation and keep others away until the transaction ends."""
    cursor.execute(REBUILD_ALONE, [LOCK_SPACE, organisation_id])
