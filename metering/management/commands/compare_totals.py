"""Recompute totals from events and print every difference; exit code 1 when there is one."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from django.core.management.base import CommandParser

from accounts.commands import JsonCommand
from metering.aggregation import compare_totals
from metering.management.arguments import find_organisation, instant
from metering.models import DroppedMonth, MeterBackfill

# More than this helps nobody; `differences` counts them all.
MOST_SHOWN = 200


class Command(JsonCommand):
    help = "Recompute totals from events and report differences. Exit code 1 when there are any."

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("--organisation", help="Slug or public id; without it, all.")
        parser.add_argument("--start", type=instant, help="First instant to compare, such as 2026-11-01T00:00Z.")
        parser.add_argument("--end", type=instant, help="Instant before which to compare.")

    def run(self, **options: Any) -> dict[str, Any]:
        backfills = MeterBackfill.objects.unfinished().count()
        one = find_organisation(options["organisation"]) if options["organisation"] else None
        found = compare_totals(one, options["start"], options["end"])
        return {
            "events_kept_from": DroppedMonth.objects.events_kept_from(),
            "backfills_under_way": backfills,
            "differences": len(found),
            "items": [asdict(difference) for difference in found[:MOST_SHOWN]],
        }

    def exit_code(self, result: Mapping[str, Any]) -> int:
        return 1 if result["differences"] else 0
