"""Fill an installation with the demo world, or complete one that was interrupted."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from django.conf import settings
from django.utils import timezone

from accounts.commands import JsonCommand
from billing.demo.world import World, create_world

TRY_FIRST = [
    "Sign in as olivia@northwind.example at {address}/accounts/login/ and watch Overview, Usage and Bill.",
    "Open an invoice and follow a line down to its price and its quantity; pay the open one.",
    "Sign in as the operator at {address}/admin/ and close Lumen Legal's period that has just ended.",
    "Sign up with an address of your own at {address}/accounts/signup/; e-mails are at {address}/dev/mailbox/.",
]


class Command(JsonCommand):
    help = "Make the demo world: three organisations with two months of usage and bills. Safe to repeat."

    def run(self, **options: Any) -> Mapping[str, Any]:
        world = create_world(now=timezone.now(), progress=self.stderr.write)
        _leave_note(world)
        return asdict(world)


def _leave_note(world: World) -> None:
    """For whoever started this installation: logins and tokens, readable by this user only."""
    note = settings.DATA_DIR / "demo.json"
    note.parent.mkdir(parents=True, exist_ok=True)
    note.touch(mode=0o600)
    note.write_text(json.dumps({"logins": world.logins, **world.tokens, "try": TRY_FIRST}, indent=2))
