"""Let a meter count events of before it was defined; cut off, it goes on where it was."""

from typing import Any

from django.core.management.base import CommandParser
from django.utils import timezone

from accounts.commands import JsonCommand
from accounts.errors import DomainError
from metering.backfilling import run_backfill, start_backfill
from metering.management.arguments import instant
from metering.models import Meter, MeterBackfill

# Days of one organisation between two looks at the progress.
STEPS = 20


class NoSuchMeterError(DomainError):
    code = "unknown_meter"
    sentence = "There is no such meter."


class Command(JsonCommand):
    help = "Let a meter count events from before it was defined, organisation by organisation and day by day."

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("--meter", required=True, help="Its key.")
        parser.add_argument(
            "--start", type=instant, help="From when on it counts: 2026-11-01T00:00Z. Left out: go on with what runs."
        )

    def run(self, **options: Any) -> dict[str, Any]:
        meter = Meter.objects.filter(key=options["meter"]).first()
        if meter is None:
            raise NoSuchMeterError
        row = MeterBackfill.objects.unfinished().filter(meter=meter).first()
        if options["start"] is not None:
            row = start_backfill(meter, options["start"], now=timezone.now(), actor="command")
        if row is None:
            return {"meter": meter.key, "running": False}
        while not (progress := run_backfill(row, now=timezone.now(), steps=STEPS)).is_finished:
            self.stderr.write(f"{progress.done} of {progress.organisations} organisations", ending="\r")
        return {
            "meter": meter.key,
            "running": False,
            "start": row.start,
            "end": row.end,
            "organisations": progress.done,
            "totals": progress.totals,
        }
