"""Check that the ledger of credit adds up and print every difference; exit code 1 when there is one."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from django.core.management.base import CommandParser

from accounts.commands import JsonCommand
from accounts.organisations import find_organisation
from billing.credit_checks import check_credits

# More than this helps nobody; `differences` counts them all.
MOST_SHOWN = 200


class Command(JsonCommand):
    help = "Check that the ledger of credit adds up and says what invoices say. Exit code 1 when it does not."

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("--organisation", metavar="SLUG", help="Slug or org_… id; without it, all.")

    def run(self, **options: Any) -> Mapping[str, Any]:
        one = find_organisation(options["organisation"]) if options["organisation"] else None
        found = check_credits(one)
        return {"differences": len(found), "items": [asdict(finding) for finding in found[:MOST_SHOWN]]}

    def exit_code(self, result: Mapping[str, Any]) -> int:
        return 1 if result["differences"] else 0
