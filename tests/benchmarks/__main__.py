"""Measures Kilotoken on this machine: python -m tests.benchmarks [parts] [options].

Starts a copy of its own in a temporary folder and deletes it. Give it the machine to itself; a figure means something
only beside the others of the same run.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

PARTS = ("ingestion", "streaming", "usage", "closing", "admission")


def main() -> None:
    options = _options()
    with tempfile.TemporaryDirectory(prefix="kilotoken-benchmark-", dir=options.folder) as folder:
        Path(folder).chmod(0o755)
        measured = _measure(options, Path(folder) / "data")
    if options.json:
        options.json.write_text(json.dumps(measured, indent=2) + "\n")


def _measure(options: argparse.Namespace, data: Path) -> dict[str, Any]:
    from tests.benchmarks.installation import running

    with running(data, options.port) as installation:
        # Models can be imported once the installation has set Django up.
        from tests.benchmarks import admission, closing, ingestion, reading, report, streaming
        from tests.benchmarks.world import make_world

        measured: dict[str, Any] = {"machine": report.machine()}
        _say(measured["machine"])
        world = make_world(options.organisations)

        def note(part: str, table: Callable[[Any], str], result: Any) -> None:
            rows = result if isinstance(result, list) else [result]
            measured[part] = [asdict(row) for row in rows]
            _say(f"\n{table(result)}")

        if "ingestion" in options.parts:
            scenarios = [
                ingestion.Scenario(batch, *senders)
                for batch in options.batches
                for senders in [(1, 1), (2, 1), *([(2, options.in_flight)] if batch < 1000 else [(2, 2), (2, 4)])]
            ]
            rows = []
            for run, scenario in enumerate(scenarios, start=1):
                rows.append(ingestion.ingest(installation, world, scenario, seconds=options.seconds, run=run))
                print(report.ingestion_table(rows).splitlines()[-1], file=sys.stderr)  # noqa: T201
            note("ingestion", report.ingestion_table, rows)
        if "streaming" in options.parts:
            note("streaming", report.streaming_table, streaming.stream(installation, world, options.stream_mib))
        if "usage" in options.parts:
            readers = make_world(len(options.usage_events), prefix="Reading").organisations
            counts = zip(readers, options.usage_events, strict=True)
            note("usage", report.reading_table, [reading.read_usage(installation, *one) for one in counts])
        if "closing" in options.parts:
            note("closing", report.closing_table, closing.close_months(options.invoices))
        if "admission" in options.parts:
            sizes = {"organisations": options.callers, "in_flight": options.in_flight, "seconds": options.seconds}
            note("admission", report.admission_table, admission.admit_calls(installation.postgres, **sizes))
    return measured


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="part", help=f"any of {', '.join(PARTS)}; all without one")
    parser.add_argument("--seconds", type=float, default=8.0, help="of each ingestion run")
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 100, 1000], metavar="EVENTS")
    parser.add_argument("--in-flight", type=int, default=8, help="of each sender in the third run of small batches")
    parser.add_argument("--organisations", type=int, default=4, help="whose events a sender mixes")
    parser.add_argument("--stream-mib", type=int, default=100, help="size of the NDJSON body")
    parser.add_argument(
        "--usage-events", type=int, nargs="+", default=[1_000_000, 10_000_000], help="100000000: half an hour, 40 GB"
    )
    parser.add_argument("--invoices", type=int, default=1000)
    parser.add_argument("--callers", type=int, default=100, help="organisations whose calls are admitted")
    parser.add_argument("--port", type=int, default=8239)
    parser.add_argument("--folder", type=Path, help="where the data go meanwhile; the disk is what is measured")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write every figure as JSON")
    options = parser.parse_args()
    options.parts = options.parts or list(PARTS)
    if unknown := set(options.parts) - set(PARTS):
        parser.error(f"no such part: {', '.join(sorted(unknown))}")
    return options


def _say(text: str) -> None:
    print(text, flush=True)  # noqa: T201 (a program of the terminal)


if __name__ == "__main__":
    main()
