"""Rate closed periods by today's price book, and charge or give back the difference on the next invoices."""

from collections.abc import Mapping
from typing import Any

from django.core.management.base import CommandParser
from django.utils import timezone

from accounts.commands import JsonCommand
from accounts.organisations import find_organisation
from billing.management.arguments import instant
from billing.price_corrections import Difference, correct_prices, differences


class Command(JsonCommand):
    help = (
        "Show what today's price book makes of closed periods; with --apply, have the next invoices carry the "
        "differences. Without it nothing is changed."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("--from", dest="start", type=instant, required=True, metavar="ISO")
        parser.add_argument("--until", dest="end", type=instant, required=True, metavar="ISO")
        parser.add_argument("--organisation", metavar="SLUG", help="All of them unless given.")
        parser.add_argument("--reason", default="", help="Why; stands in the audit log. Needed with --apply.")
        parser.add_argument("--apply", action="store_true", help="Make the correction.")

    def run(self, **options: Any) -> Mapping[str, Any]:
        organisation = find_organisation(options["organisation"]) if options["organisation"] else None
        found = [_shown(one) for one in differences(options["start"], options["end"], organisation)]
        if not options["apply"]:
            return {"applied": False, "differences": found}
        correction = correct_prices(
            options["start"],
            options["end"],
            organisation=organisation,
            reason=options["reason"],
            now=timezone.now(),
            actor=self.actor,
        )
        return {"applied": True, "correction": correction.public_id, "differences": found}


def _shown(difference: Difference) -> dict[str, Any]:
    return {
        "invoice": difference.invoice.number,
        "organisation": difference.subscription.organisation.slug,
        "difference": str(difference.amount),
        "currency": difference.invoice.currency,
        "will_be_billed": difference.will_be_billed,
    }
