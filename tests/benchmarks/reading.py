"""How long a month of usage by day and model takes, however many events went into it.

Cold is the first report after PostgreSQL was started anew with its files put out of the system's cache.
"""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from statistics import quantiles

from django.db import connection
from django.utils import timezone

from accounts.models import Organisation
from config import embedded
from metering import aggregation, reports
from tests.benchmarks.bodies import MODELS
from tests.benchmarks.history import write_events
from tests.benchmarks.installation import Installation

BATCH = 50_000
DAYS = 31
COLD_STARTS = 5
WARM_REPORTS = 100


@dataclass(frozen=True)
class Read:
    """Milliseconds. `fold_us` is what folding cost in wall-clock microseconds per event."""

    events: int
    fold_us: float
    cold_p50_ms: float
    cold_worst_ms: float
    warm_p50_ms: float
    warm_p95_ms: float


def read_usage(installation: Installation, organisation: Organisation, events: int) -> Read:
    """Fill up to `events` events of one organisation in the last 31 days, then read them."""
    folding = _fill(organisation, events)
    today = timezone.now().replace(hour=0, minute=0, second=0, microsecond=0)

    def report() -> None:
        found = reports.usage(
            organisation,
            start=today - timedelta(days=DAYS - 1),
            end=today + timedelta(days=1),
            granularity="day",
            group_by=("meter", "model"),
        )
        assert len(found.rows) > DAYS * len(MODELS)

    cold = sorted(_cold(installation, report) for _ in range(COLD_STARTS))
    warm = quantiles([_milliseconds(report) for _ in range(WARM_REPORTS)], n=100)
    return Read(events, folding / events * 1e6, cold[COLD_STARTS // 2], cold[-1], warm[49], warm[94])


def _fill(organisation: Organisation, events: int) -> float:
    """Returns the seconds that folding took."""
    now, batches = timezone.now(), max(1, events // BATCH)
    begin, step = now - timedelta(days=DAYS), timedelta(days=DAYS) / batches
    folding = 0.0
    for number in range(batches):
        first = begin + step * number
        write_events(organisation, min(BATCH, events), first=first, last=first + step, received_at=now)
        started = time.perf_counter()
        aggregation.fold_pending(now=now)
        folding += time.perf_counter() - started
    return folding


def _cold(installation: Installation, report: Callable[[], None]) -> float:
    with connection.cursor() as cursor:
        cursor.execute("CHECKPOINT")
    connection.close()
    connection.close_pool()
    embedded.stop_postgres(installation.data)
    _forget_files(installation.data / "postgres" / "base")
    embedded.start_postgres(installation.data)
    connection.ensure_connection()
    return _milliseconds(report)


def _forget_files(folder: Path) -> None:
    """Ask the system to drop what it holds of these files in memory."""
    for path in folder.rglob("*"):
        if path.is_file():
            descriptor = os.open(path, os.O_RDONLY)
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(descriptor)


def _milliseconds(report: Callable[[], None]) -> float:
    started = time.perf_counter()
    report()
    return (time.perf_counter() - started) * 1e3
