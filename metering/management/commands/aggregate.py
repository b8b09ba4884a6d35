"""Add pending batches to the totals, as the worker does all the time."""

from typing import Any

from django.core.management.base import CommandParser
from django.utils import timezone

from accounts.commands import JsonCommand
from metering.aggregation import fold_pending, lag


class Command(JsonCommand):
    help = "Add accepted events to the totals until none is pending."

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        extent = parser.add_mutually_exclusive_group()
        extent.add_argument("--once", action="store_true", help="Fold one group of batches only.")
        extent.add_argument("--until-empty", action="store_true", help="Go on until nothing is pending (the default).")

    def run(self, **options: Any) -> dict[str, Any]:
        batches = events = 0
        while (folded := fold_pending(now=timezone.now())).batches:
            batches += folded.batches
            events += folded.events
            if options["once"]:
                break
            self.stderr.write(f"{events:,} events in {batches:,} batches", ending="\r")
        return {"batches": batches, "events": events, "pending_events": lag(timezone.now()).pending_events}
