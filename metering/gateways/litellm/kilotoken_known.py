"""What Kilotoken last said, kept beside the spool: whose a key is, and how far calls may go while it cannot be asked.

One small SQLite file, shared by all worker processes of a machine, so that the bound of an outage holds for all of them
together and a restart in the middle of an outage neither forgets the keys nor begins to count anew. No secrets: keys
are known by their SHA-256. Standard library only.
"""

import sqlite3
import threading
import time
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

# Whoever has not called for that long is asked about first, when Kilotoken is there again.
FORGET_AFTER = 35 * 86_400
NANO = 10**9

SCHEMA = """
CREATE TABLE IF NOT EXISTS known_key (
    digest TEXT PRIMARY KEY, organisation TEXT NOT NULL, project TEXT NOT NULL, api_key TEXT NOT NULL,
    seen_at INTEGER NOT NULL
);
CREATE TABLE IF NOT EXISTS policy (
    organisation TEXT PRIMARY KEY, mode TEXT NOT NULL, max_requests INTEGER, max_nano INTEGER,
    requests INTEGER NOT NULL DEFAULT 0, nano INTEGER NOT NULL DEFAULT 0
);
CREATE TABLE IF NOT EXISTS price (
    organisation TEXT NOT NULL, model TEXT NOT NULL, nano_per_token INTEGER NOT NULL,
    PRIMARY KEY (organisation, model)
);
"""
TAKE_CALL = """
UPDATE policy SET requests = requests + 1, nano = nano + :cost
WHERE organisation = :organisation AND mode = 'open'
    AND (max_requests IS NULL OR requests < max_requests)
    AND (max_nano IS NULL OR nano + :cost <= max_nano)
"""


@dataclass(frozen=True)
class Identity:
    """Whose key it is, by public ids."""

    organisation: str
    project: str
    api_key: str


@dataclass(frozen=True)
class Policy:
    """What an organisation wants while Kilotoken is unreachable; None: not bounded by that."""

    mode: str
    max_requests: int | None
    max_amount: Decimal | None


class Known:
    """Safe between threads and processes. What has not changed is not written again."""

    def __init__(self, file: Path) -> None:
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._lock = threading.Lock()
        self._written: dict[tuple[str, ...], object] = {}
        self._database = sqlite3.connect(file, timeout=5, isolation_level=None, check_same_thread=False)
        self._database.execute("PRAGMA journal_mode = WAL")
        self._database.execute("PRAGMA synchronous = NORMAL")
        self._database.executescript(SCHEMA)
        self._database.execute("DELETE FROM known_key WHERE seen_at < ?", [int(time.time()) - FORGET_AFTER])

    def identity(self, digest: str) -> Identity | None:
        row = self._row("SELECT organisation, project, api_key FROM known_key WHERE digest = ?", digest)
        return Identity(*row) if row else None

    def learn_key(self, digest: str, identity: Identity) -> None:
        if self._is_news(("key", digest), identity, hours=True):
            values = (digest, identity.organisation, identity.project, identity.api_key, int(time.time()))
            self._write("INSERT OR REPLACE INTO known_key VALUES (?, ?, ?, ?, ?)", *values)

    def forget_key(self, digest: str) -> None:
        """Kilotoken refuses it: an outage must not bring it back."""
        self._written.pop(("key", digest), None)
        if self.identity(digest) is not None:
            self._write("DELETE FROM known_key WHERE digest = ?", digest)

    def learn_policy(self, organisation: str, policy: Policy) -> None:
        """Also ends an outage for the organisation: what it took then has been reported since, or will be."""
        most = None if policy.max_amount is None else _nano(policy.max_amount)
        if self._is_news(("policy", organisation), policy):
            self._write(
                "INSERT INTO policy (organisation, mode, max_requests, max_nano) VALUES (?, ?, ?, ?) "
                "ON CONFLICT (organisation) DO UPDATE SET mode = excluded.mode, max_requests = excluded.max_requests, "
                "max_nano = excluded.max_nano, requests = 0, nano = 0",
                *(organisation, policy.mode, policy.max_requests, most),
            )

    def learn_price(self, organisation: str, model: str, *, quoted: Decimal, tokens: int) -> None:
        """What a token of a quoted call cost on average, rounded up."""
        if tokens > 0:
            each = -(-_nano(quoted) // tokens)
            if self._is_news(("price", organisation, model), each):
                self._write("INSERT OR REPLACE INTO price VALUES (?, ?, ?)", organisation, model, each)

    def take_call(self, organisation: str, model: str, tokens: int) -> bool:
        """Count a call made without asking; False if the organisation's bound is reached or it wants none.

        Its cost is guessed from the last quote for the model, else from the dearest model known. Where a bound in money
        cannot be watched, because no price was ever quoted, a bound of requests must stand in.
        """
        self._written.pop(("policy", organisation), None)  # the next answer ends the outage
        each = self._row("SELECT nano_per_token FROM price WHERE organisation = ? AND model = ?", organisation, model)
        each = each or self._row("SELECT max(nano_per_token) FROM price WHERE organisation = ?", organisation)
        if each is None or each[0] is None:
            bounds = self._row("SELECT max_requests, max_nano FROM policy WHERE organisation = ?", organisation)
            if bounds and bounds[0] is None and bounds[1] is not None:
                return False
            each = (0,)
        return self._write(TAKE_CALL, {"organisation": organisation, "cost": each[0] * tokens}) == 1

    def close(self) -> None:
        with self._lock:
            self._database.close()

    def _is_news(self, name: tuple[str, ...], value: object, *, hours: bool = False) -> bool:
        stamped = (value, int(time.time()) // 3600 if hours else 0)
        if self._written.get(name) == stamped:
            return False
        if len(self._written) > 100_000:
            self._written.clear()
        self._written[name] = stamped
        return True

    def _row(self, query: str, *values: object) -> tuple | None:
        with self._lock:
            row: tuple | None = self._database.execute(query, values).fetchone()
        return row

    def _write(self, statement: str, *values: object) -> int:
        named = values[0] if values and isinstance(values[0], dict) else values
        with self._lock:
            return self._database.execute(statement, named).rowcount


def _nano(amount: Decimal) -> int:
    """Billionths of the currency's major unit, rounded up; as much as SQLite holds."""
    return min(int((amount * NANO).to_integral_value("ROUND_CEILING")), 2**62)
