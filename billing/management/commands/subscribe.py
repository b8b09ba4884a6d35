"""Put an organisation on a plan."""

from collections.abc import Mapping
from typing import Any

from django.core.management.base import CommandParser
from django.utils import timezone

from accounts.commands import JsonCommand
from accounts.organisations import find_organisation
from billing import schedules
from billing.catalogue import newest_version
from billing.management.arguments import instant
from billing.subscribing import subscribe


class Command(JsonCommand):
    help = "Subscribe an organisation to the newest published version of a plan."

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("--organisation", required=True, metavar="SLUG")
        parser.add_argument("--plan", required=True, metavar="KEY")
        parser.add_argument(
            "--anchor", type=instant, metavar="ISO", help="When the first period begins; now unless given."
        )

    def run(self, **options: Any) -> Mapping[str, Any]:
        now = timezone.now()
        subscription = subscribe(
            find_organisation(options["organisation"]),
            newest_version(options["plan"]),
            now=now,
            anchor=options["anchor"],
            actor="subscribe command",
        )
        period = schedules.current_period(subscription, now)
        return {
            "subscription": subscription.public_id,
            "organisation": options["organisation"],
            "plan": options["plan"],
            "anchor_at": subscription.anchor_at,
            "period_start": period.start,
            "period_end": period.end,
        }
