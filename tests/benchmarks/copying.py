"""The measure of ingestion: the same rows by COPY, which is the least that must be done to have them stored.

One client on one connection, with the machine to itself. It holds events as intake holds them after judging; of each
batch it packs the rows, by the code and into the columns of intake, copies them and waits for the commit, which is
flushed to disk like intake's. All of that is counted; the rate without packing stands beside it. There is no HTTP, no
event is decoded, checked, answered or folded, and no id is looked for; PostgreSQL reads `data` from its text, as it
does for intake.

Bare is a table without any index: whatever is sent twice is there twice. Under a key, it has the one unique index by
which events are told from their repetitions.
"""

import os
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import psycopg
from django.db import connection
from django.utils import timezone

from config.embedded import database_url
from metering import event_store
from metering.drafts import Draft
from metering.event_store import Candidate, binary_rows
from metering.formats.cloudevents import decode_body
from metering.identity import identity
from metering.partitions import identity_index, month_of, partition_name
from tests.benchmarks.bodies import numbered, templates
from tests.benchmarks.installation import Installation
from tests.benchmarks.world import World

TEMPLATES = 16


def checkpoint() -> None:
    """Write out what is waiting for it."""
    with connection.cursor() as cursor:
        cursor.execute("CHECKPOINT")


@dataclass(frozen=True)
class Copied:
    rows: int
    packing_seconds: float
    copying_seconds: float

    def __add__(self, other: "Copied") -> "Copied":
        packing = self.packing_seconds + other.packing_seconds
        return Copied(self.rows + other.rows, packing, self.copying_seconds + other.copying_seconds)

    @property
    def per_second(self) -> float:
        return self.rows / (self.packing_seconds + self.copying_seconds)

    @property
    def packed_per_second(self) -> float:
        """As if the rows had been packed beforehand."""
        return self.rows / self.copying_seconds


def copy_for(seconds: float, installation: Installation, world: World, size: int, *, under_key: bool) -> Copied:
    """A commit for every `size` rows."""
    month = month_of(timezone.now())
    made = [_drafts(body, number) for number, body in enumerate(templates(world.subjects, size, TEMPLATES, size))]
    checkpoint()
    copied, packing, copying = 0, 0.0, 0.0
    with psycopg.connect(database_url(installation.data), autocommit=True) as client:
        # In a transaction of its own: what is copied into a table of the same transaction would not be logged.
        client.execute(f"CREATE TABLE bare (LIKE {partition_name(month)})")
        if under_key:
            client.execute(identity_index("bare"))
        while packing + copying < seconds:
            events = list(_under_new_keys(made[copied // size % TEMPLATES], world.subjects))
            batch_ids = dict.fromkeys((one.organisation_id for one in events), copied)
            started = time.perf_counter()
            rows = binary_rows(events, batch_ids, month)
            packed = time.perf_counter()
            with client.cursor() as cursor, cursor.copy(event_store.copy_statement("bare")) as copy:
                copy.write(rows)
            copying += time.perf_counter() - packed
            packing += packed - started
            copied += size
        client.execute("DROP TABLE bare")
    return Copied(copied, packing, copying)


def _drafts(template: bytes, number: int) -> list[Draft]:
    return [draft for draft in decode_body(numbered(template, number)) if isinstance(draft, Draft)]


def _under_new_keys(drafts: Iterable[Draft], subjects: Sequence[str]) -> Iterable[Candidate]:
    """The events as if they had other ids, of an organisation for every four subjects."""
    places = {subject: place for place, subject in enumerate(subjects)}
    for position, draft in enumerate(drafts):
        place, key = places[draft.subject], os.urandom(16)
        owner = place // 4
        assert draft.time is not None
        yield Candidate(
            position, draft, owner, owner, place, key, identity(owner, key), draft.time, time_assumed=False, meters=()
        )
