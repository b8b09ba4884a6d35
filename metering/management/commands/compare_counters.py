"""Recompute counters of limits from events and holds and print every difference; exit code 1 when there is one."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from django.core.management.base import CommandParser
from django.utils import timezone

from accounts.commands import JsonCommand
from accounts.models import Organisation
from metering.management.arguments import find_organisation, instant
from metering.models import Quota
from metering.recounting import compare_counters

MOST_SHOWN = 200


class Command(JsonCommand):
    help = "Recompute the counters of limits from events and holds. Exit code 1 when any differs."

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("--organisation", help="Slug or public id; without it, all.")
        parser.add_argument(
            "--since",
            type=instant,
            help="Windows that began then or later; without it, all that run.",
        )

    def run(self, **options: Any) -> dict[str, Any]:
        if options["organisation"]:
            organisations = [find_organisation(options["organisation"])]
        else:
            limited = Quota.objects.active().values("organisation")
            organisations = list(Organisation.objects.filter(pk__in=limited).order_by("pk"))
        now = timezone.now()
        found = [
            difference
            for organisation in organisations
            for difference in compare_counters(organisation, now=now, since=options["since"])
        ]
        return {
            "organisations": len(organisations),
            "differences": len(found),
            "items": [asdict(difference) for difference in found[:MOST_SHOWN]],
        }

    def exit_code(self, result: Mapping[str, Any]) -> int:
        return 1 if result["differences"] else 0
