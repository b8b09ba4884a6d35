"""replay_rejected: send what was refused once more, when its cause is gone."""

import sys
from collections.abc import Mapping
from typing import Any

from django.core.management.base import CommandParser
from django.utils import timezone
from tqdm import tqdm

from accounts.commands import JsonCommand
from metering.body_repairs import make_repair, value_from
from metering.management.arguments import find_organisation, instant
from metering.models import RejectedEvent
from metering.models.events import RejectionReason
from metering.repair import Tally, replay_all


class Command(JsonCommand):
    help = (
        "Send open rejected events once more, as they are or with members repaired. Each is tried once; what is "
        "refused again stays open."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("--reason", choices=RejectionReason.values, help="Only what was refused for this reason.")
        parser.add_argument("--organisation", metavar="SLUG", help="Only of this organisation: slug or org_… id.")
        parser.add_argument(
            "--since", type=instant, metavar="ISO", help="Only what came in last at this time or later."
        )
        parser.add_argument("--until", type=instant, metavar="ISO", help="Only what came in last before this time.")
        parser.add_argument(
            "--set",
            action="append",
            default=[],
            nargs=2,
            metavar=("FIELD", "VALUE"),
            help="Before, give this member that value: --set data.model gpt-5. May be said again.",
        )
        parser.add_argument(
            "--replace",
            action="append",
            default=[],
            nargs=3,
            metavar=("FIELD", "FROM", "TO"),
            help="Before, put one value of a member in the place of another. May be said again.",
        )
        parser.add_argument("--backfill", action="store_true", help="Take them if they are older than the late window.")

    def run(self, **options: Any) -> Mapping[str, Any]:
        rows = RejectedEvent.objects.filter(state=RejectedEvent.State.OPEN)
        if options["reason"]:
            rows = rows.filter(reason=options["reason"])
        if options["organisation"]:
            rows = rows.filter(organisation=find_organisation(options["organisation"]))
        if options["since"]:
            rows = rows.filter(last_seen_at__gte=options["since"])
        if options["until"]:
            rows = rows.filter(last_seen_at__lt=options["until"])
        repairs = [make_repair(field, value_from(value)) for field, value in options["set"]]
        repairs += [make_repair(field, value_from(to), was=value_from(was)) for field, was, to in options["replace"]]
        terms = {"actor": self.actor, "backfill": options["backfill"], "repairs": repairs}
        tally = Tally()
        with tqdm(total=rows.count(), unit=" events", file=sys.stderr, mininterval=0.5) as progress:
            for tally in replay_all(rows, now=timezone.now(), **terms):
                progress.update(tally.rows - progress.n)
        return {
            "replayed": tally.rows,
            "accepted": tally.accepted,
            "duplicates": tally.duplicates,
            "still_refused": tally.refused,
        }
