"""What was measured, as tables in Markdown, which read well in a terminal too; and the machine it was measured on."""

import os
import platform
from collections.abc import Sequence
from pathlib import Path

from django.db import connection

from tests.benchmarks.admission import Admitted
from tests.benchmarks.closing import ClosedMonth
from tests.benchmarks.ingestion import Ingested
from tests.benchmarks.reading import Read
from tests.benchmarks.streaming import Streamed


def machine() -> str:
    with connection.cursor() as cursor:
        cursor.execute("SELECT current_setting('server_version'), current_setting('fsync')")
        version, fsync = cursor.fetchone()
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
    parts = [f"{os.cpu_count()} cores", _processor(), f"{memory:.0f} GiB of memory", platform.system()]
    parts += [f"PostgreSQL {version} with fsync {fsync}", f"Python {platform.python_version()}"]
    load = os.getloadavg()[0]
    return ", ".join(part for part in parts if part) + f"; load when it began {load:.1f}"


def ingestion_table(rows: Sequence[Ingested]) -> str:
    head = ["Batch", "Senders × in flight", "Events/s", "of bare COPY", "packed before", "with a key", "p50 / p99 ms"]
    head += ["CPU µs/event: web", "worker", "PostgreSQL", "all three", "sender", "Lag s", "Bytes/event"]
    return _table(head, [_ingested(row) for row in rows])


def _ingested(row: Ingested) -> list[str]:
    scenario = row.scenario
    return [
        f"{scenario.batch:,}",
        f"{scenario.senders} × {scenario.connections}",
        f"{row.events_per_second:,.0f}",
        f"{row.ratio:.2f} of {row.bare_per_second:,.0f}",
        f"{row.packed_ratio:.2f} of {row.packed_per_second:,.0f}",
        f"{row.keyed_ratio:.2f} of {row.keyed_per_second:,.0f}",
        f"{row.p50_ms:.1f} / {row.p99_ms:.1f}",
        *(f"{value:,.1f}" for value in (row.web_us, row.worker_us, row.postgres_us, row.cpu_us, row.sender_us)),
        f"{row.lag_seconds:.1f}",
        f"{row.bytes_per_event:,.0f}",
    ]


def reading_table(rows: Sequence[Read]) -> str:
    head = ["Events", "Folding µs/event", "Cold p50 / worst ms", "Warm p50 / p95 ms"]
    cells = [
        [
            f"{row.events:,}",
            f"{row.fold_us:.1f}",
            f"{row.cold_p50_ms:.0f} / {row.cold_worst_ms:.0f}",
            f"{row.warm_p50_ms:.1f} / {row.warm_p95_ms:.1f}",
        ]
        for row in rows
    ]
    return _table(head, cells)


def closing_table(rows: Sequence[ClosedMonth]) -> str:
    head = ["Month", "Invoices", "Series each", "Lines each", "CPU ms each: rate() alone", "closing", "PostgreSQL"]
    head += ["Invoices/s, one process", "Invoices/s per core"]
    return _table(head, [_closed(row) for row in rows])


def _closed(row: ClosedMonth) -> list[str]:
    return [
        row.month,
        f"{row.invoices:,}",
        f"{row.series:,}",
        f"{row.lines:,}",
        f"{row.rating_ms:.2f}",
        f"{row.python_ms:.1f}",
        f"{row.postgres_ms:.1f}",
        f"{row.invoices_per_second:,.0f}",
        f"{row.per_core:,.0f}",
    ]


def admission_table(rows: Sequence[Admitted]) -> str:
    head = [
        "Web processes",
        "Calls of",
        "In flight",
        "Per second",
        "p50 / p95 / p99 ms",
        "CPU µs: web",
        "PostgreSQL",
        "of one query: bare",
        "here",
    ]
    cells = [
        [
            str(row.web_processes),
            row.calls_of,
            str(row.in_flight),
            f"{row.per_second:,.0f}",
            f"{row.p50_ms:.1f} / {row.p95_ms:.1f} / {row.p99_ms:.1f}",
            f"{row.web_us:.0f}",
            f"{row.postgres_us:.0f}",
            f"{row.of_one_query:.2f}",
            f"{row.of_one_query_here:.2f}",
        ]
        for row in rows
    ]
    return _table(head, cells)


def streaming_table(row: Streamed) -> str:
    head = ["NDJSON body MiB", "Seconds", "Web processes MiB: before", "peak", "after"]
    cells = [f"{row.sent_mib:.0f}", f"{row.seconds:.1f}"]
    return _table(head, [[*cells, *(f"{value:.0f}" for value in (row.before_mib, row.peak_mib, row.after_mib))]])


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]

    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)) + " |"

    return "\n".join([line(head), line(["-" * width for width in widths]), *map(line, rows)])


def _processor() -> str:
    for text in Path("/proc/cpuinfo").read_text().splitlines():
        if text.startswith("model name"):
            return text.partition(":")[2].strip()
    return platform.machine()
