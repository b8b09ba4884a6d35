"""Ingestion over HTTP while folding runs, and the same rows by COPY, bare and under a key: the measure of the machine.

COPY is measured before and after, since a machine is not equally fast all the time. Every stretch begins after a
checkpoint, so that none pays for writing out what another left behind. Several hundredths of a second of CPU are the
grain of /proc, so runs last seconds. CPU is counted until the last event is folded; the rate is that of the answers,
each of which came after its commit.
"""

import json
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import quantiles
from tempfile import TemporaryFile

from django.db import connection
from django.utils import timezone

from metering import aggregation
from tests.benchmarks.copying import Copied, checkpoint, copy_for
from tests.benchmarks.installation import Installation
from tests.benchmarks.processes import cpu_seconds
from tests.benchmarks.sender import Order, Report
from tests.benchmarks.world import World

ROOT = Path(__file__).resolve().parents[2]
# For senders to start and encode.
SECONDS_AHEAD = 2.0
MOST_SECONDS_TO_FOLD = 300
TABLES = ("event", "ingest_batch", "series", "usage_interval", "usage_day")
SIZE = """
SELECT sum(pg_total_relation_size(c.oid))::bigint FROM pg_class c
WHERE c.relkind = 'r' AND (c.relname = ANY(%s) OR c.oid IN (SELECT inhrelid FROM pg_inherits
    WHERE inhparent = 'event'::regclass))"""


@dataclass(frozen=True)
class Scenario:
    batch: int
    senders: int
    # In flight at a time, of each sender.
    connections: int


@dataclass(frozen=True)
class Ingested:
    """Rates per second; CPU in microseconds per event, folding included; lag in seconds; latency per request in ms."""

    scenario: Scenario
    events: int
    events_per_second: float
    p50_ms: float
    p99_ms: float
    sender_us: float
    web_us: float
    worker_us: float
    postgres_us: float
    lag_seconds: float
    drained_seconds: float
    bytes_per_event: float
    bare_per_second: float
    packed_per_second: float
    keyed_per_second: float

    @property
    def cpu_us(self) -> float:
        """Without the sender."""
        return self.web_us + self.worker_us + self.postgres_us

    @property
    def ratio(self) -> float:
        return self.events_per_second / self.bare_per_second

    @property
    def packed_ratio(self) -> float:
        return self.events_per_second / self.packed_per_second

    @property
    def keyed_ratio(self) -> float:
        return self.events_per_second / self.keyed_per_second


def ingest(installation: Installation, world: World, scenario: Scenario, *, seconds: float, run: int) -> Ingested:
    def copy(*, under_key: bool) -> Copied:
        return copy_for(min(seconds, 3.0) / 2, installation, world, scenario.batch, under_key=under_key)

    bare, keyed = copy(under_key=False), copy(under_key=True)
    checkpoint()
    sizes, cpu = stored_bytes(), _cpu(installation)
    reports, lag = _send(installation, world, scenario, seconds=seconds, run=run)
    sent_at = time.monotonic()
    lag = max(lag, _drain())
    drained = time.monotonic() - sent_at
    events = sum(report.accepted for report in reports)
    web, worker, postgres = (
        (after - before) / events * 1e6 for before, after in zip(cpu, _cpu(installation), strict=True)
    )
    bytes_per_event = (stored_bytes() - sizes) / events
    bare, keyed = bare + copy(under_key=False), keyed + copy(under_key=True)
    latencies = quantiles([latency for report in reports for latency in report.latencies], n=100)
    return Ingested(
        scenario=scenario,
        events=events,
        events_per_second=events / max(report.seconds for report in reports),
        p50_ms=latencies[49] * 1e3,
        p99_ms=latencies[98] * 1e3,
        sender_us=sum(report.cpu_seconds for report in reports) / events * 1e6,
        web_us=web,
        worker_us=worker,
        postgres_us=postgres,
        lag_seconds=lag,
        drained_seconds=drained,
        bytes_per_event=bytes_per_event,
        bare_per_second=bare.per_second,
        packed_per_second=bare.packed_per_second,
        keyed_per_second=keyed.per_second,
    )


def stored_bytes() -> int:
    """Everything that ingestion and folding have written, with indexes."""
    with connection.cursor() as cursor:
        cursor.execute(SIZE, [list(TABLES)])
        return int(cursor.fetchone()[0])


def _send(
    installation: Installation, world: World, scenario: Scenario, *, seconds: float, run: int
) -> tuple[list[Report], float]:
    """The senders' reports, and the greatest lag seen while they sent."""
    start_at = time.time() + SECONDS_AHEAD
    senders, answers = [], []
    for number in range(scenario.senders):
        common = (installation.port, world.token, world.subjects, scenario.batch, scenario.connections)
        order = Order(*common, seconds, start_at, number, run)
        command = [sys.executable, "-m", "tests.benchmarks.sender"]
        # A file, since a pipe holds less than a long report.
        answers.append(TemporaryFile("w+"))  # noqa: SIM115 (read at the end)
        senders.append(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=answers[-1], text=True, cwd=ROOT))
        assert senders[-1].stdin
        senders[-1].stdin.write(json.dumps(asdict(order)))
        senders[-1].stdin.close()
    lag = 0.0
    while any(sender.poll() is None for sender in senders):
        lag = max(lag, aggregation.lag(timezone.now()).oldest_seconds)
        time.sleep(0.25)
    reports = []
    for answer in answers:
        with answer:
            answer.seek(0)
            reports.append(Report(**json.load(answer)))
    return reports, lag


def _drain() -> float:
    """Wait until everything is folded; the greatest lag seen meanwhile."""
    greatest, deadline = 0.0, time.monotonic() + MOST_SECONDS_TO_FOLD
    while time.monotonic() < deadline:
        lag = aggregation.lag(timezone.now())
        if not lag.pending_batches:
            return greatest
        greatest = max(greatest, lag.oldest_seconds)
        time.sleep(0.1)
    raise SystemExit("The events were not folded in time: see the worker's log.")


def _cpu(installation: Installation) -> tuple[float, float, float]:
    return cpu_seconds(installation.web), cpu_seconds(installation.worker), cpu_seconds(installation.postgres)
