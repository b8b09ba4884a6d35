"""Drop whole months of events, after showing which and asking."""

import sys
from argparse import ArgumentTypeError
from collections.abc import Mapping
from dataclasses import asdict
from datetime import date
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import CommandParser
from django.utils import timezone

from accounts.commands import JsonCommand
from metering.archiving import FORMATS
from metering.retention import Planned, drop_months, plan_dropping


class Command(JsonCommand):
    help = (
        "Drop the events of months of receipt; totals, bills and seals stay. Shows what would go and asks; without a "
        "terminal and without --yes it only shows. Exit code 1 when a month may not go."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("--before", type=month, required=True, metavar="YYYY-MM", help="The first month to keep.")
        parser.add_argument("--archive", type=Path, metavar="FOLDER", help="Write each month to a file there first.")
        parser.add_argument(
            "--format",
            choices=sorted(FORMATS),
            default=settings.EVENT_ARCHIVE_FORMAT,
            help="Of the file: NDJSON with gzip, or Parquet (EVENT_ARCHIVE_FORMAT).",
        )
        parser.add_argument("--yes", action="store_true", help="Do not ask.")

    def run(self, **options: Any) -> Mapping[str, Any]:
        now, before = timezone.now(), options["before"]
        plan = plan_dropping(before, now=now)
        if not (options["yes"] or self._is_agreed(plan)):
            return _result(False, [_planned(one) for one in plan if not one.refusal], plan[-1] if plan else None)
        done = drop_months(before, now=now, archive=options["archive"], format=options["format"], actor=self.actor)
        months = [
            {"month": str(row), "events": row.event_count, "archive": row.archive, "sha256": row.archive_digest}
            for row in done.dropped
        ]
        return _result(True, months, done.refused)

    def exit_code(self, result: Mapping[str, Any]) -> int:
        return 1 if result["refused"] else 0

    def _is_agreed(self, plan: list[Planned]) -> bool:
        going = [one for one in plan if not one.refusal]
        if not going or not sys.stdin.isatty():
            return False
        for one in going:
            self.stderr.write(f"{one.month:%Y-%m}: {one.events} events")
        return input("Drop these for ever? Type yes: ").strip().lower() == "yes"


def month(text: str) -> date:
    """The first day of a month written as 2026-11."""
    try:
        return date.fromisoformat(f"{text}-01")
    except ValueError as error:
        raise ArgumentTypeError(f"{text!r} is not a month such as 2026-11.") from error


def _planned(one: Planned) -> dict[str, Any]:
    return {**asdict(one), "month": f"{one.month:%Y-%m}"}


def _result(is_done: bool, months: list[dict[str, Any]], refused: Planned | None) -> dict[str, Any]:
    refusal = _planned(refused) if refused and refused.refusal else None
    return {"dropped": is_done, "months": months, "refused": refusal}
