"""Export an organisation's sealed events with their seals and the script that checks them."""

from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import Any

from django.core.management.base import CommandParser
from django.utils import timezone

from accounts.commands import JsonCommand
from metering.exporting import CHECK_COMMAND, plan_export, write_folder
from metering.management.arguments import find_organisation


class Command(JsonCommand):
    help = "Write an organisation's events of sealed days of receipt, their seals, and a script that checks them."

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("--organisation", required=True, metavar="SLUG", help="Slug or org_… id.")
        parser.add_argument("--from", type=date.fromisoformat, metavar="DAY", dest="first", help="First day, UTC.")
        parser.add_argument("--to", type=date.fromisoformat, metavar="DAY", dest="last", help="Last day, included.")
        parser.add_argument("--output", type=Path, required=True, metavar="FOLDER", help="Made if it is not there.")

    def run(self, **options: Any) -> Mapping[str, Any]:
        organisation = find_organisation(options["organisation"])
        now = timezone.now()
        export = plan_export(organisation, now=now, first=options["first"], last=options["last"])
        files = write_folder(export, options["output"], now)
        return {
            "organisation": organisation.public_id,
            "from": export.first,
            "to": export.last,
            "days": len(export.seals),
            "events": export.event_count,
            "head": export.chain[-1].digest,
            "files": [str(path) for path in files],
            "check": CHECK_COMMAND,
        }
