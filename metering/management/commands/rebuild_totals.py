"""Make an organisation's totals of a range again from its events."""

from dataclasses import asdict
from typing import Any

from django.core.management.base import CommandParser

from accounts.commands import JsonCommand
from metering.aggregation import rebuild_totals
from metering.management.arguments import find_organisation, instant


class Command(JsonCommand):
    help = "Replace an organisation's totals of a range by what its events say."

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("--organisation", required=True, help="Slug or public id.")
        parser.add_argument("--start", type=instant, required=True, help="On a quarter hour: 2026-11-01T00:00Z.")
        parser.add_argument("--end", type=instant, required=True, help="On a quarter hour; not included.")

    def run(self, **options: Any) -> dict[str, Any]:
        organisation, start, end = find_organisation(options["organisation"]), options["start"], options["end"]
        rebuilt = rebuild_totals(organisation, start, end)
        return {"organisation": organisation.slug, "start": start, "end": end, **asdict(rebuilt)}
