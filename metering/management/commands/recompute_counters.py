"""Make counters of limits what events and holds say, after showing what is different and asking."""

import sys
from collections.abc import Mapping
from dataclasses import asdict
from datetime import datetime
from typing import Any

from django.core.management.base import CommandParser
from django.utils import timezone

from accounts.commands import JsonCommand
from accounts.models import Organisation
from metering.management.arguments import find_organisation, instant
from metering.recounting import CounterDifference, compare_counters, recompute_counters

MOST_SHOWN = 200


class Command(JsonCommand):
    help = (
        "Make an organisation's counters of limits what events and holds say, while calls go on. Shows what differs "
        "and asks; without a terminal and without --yes it only shows. Exit code 1 when differences are left."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("--organisation", required=True, help="Slug or public id.")
        parser.add_argument(
            "--since",
            type=instant,
            help="Windows that began then or later; without it, all that run.",
        )
        parser.add_argument("--yes", action="store_true", help="Do not ask.")

    def run(self, **options: Any) -> dict[str, Any]:
        organisation, since, now = find_organisation(options["organisation"]), options["since"], timezone.now()
        if not (options["yes"] or self._is_agreed(organisation, now, since)):
            return _result(organisation, compare_counters(organisation, now=now, since=since), is_mended=False)
        found = recompute_counters(organisation, now=now, since=since, actor=self.actor)
        return _result(organisation, found, is_mended=True)

    def exit_code(self, result: Mapping[str, Any]) -> int:
        return 1 if result["differences"] and not result["recomputed"] else 0

    def _is_agreed(self, organisation: Organisation, now: datetime, since: datetime | None) -> bool:
        if not sys.stdin.isatty():
            return False
        found = compare_counters(organisation, now=now, since=since)
        for one in found[:MOST_SHOWN]:
            self.stderr.write(
                f"{one.quota} {one.subject} {one.starts_at:%Y-%m-%d %H:%M}: used {one.stored_used} -> {one.used}, "
                f"held {one.stored_held} -> {one.held}"
            )
        return bool(found) and input("Make these right? Type yes: ").strip().lower() == "yes"


def _result(organisation: Organisation, found: list[CounterDifference], *, is_mended: bool) -> dict[str, Any]:
    return {
        "organisation": organisation.slug,
        "recomputed": is_mended,
        "differences": len(found),
        "items": [asdict(one) for one in found[:MOST_SHOWN]],
    }
