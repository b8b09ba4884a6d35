"""Push finalised invoices to Stripe once: what the sweep does every half minute."""

from collections.abc import Mapping
from typing import Any

from django.core.management.base import CommandError, CommandParser
from django.utils import timezone

from accounts.commands import JsonCommand
from billing import stripe_gateway
from billing.models.stripe_mirror import PushState
from billing.stripe_sync import MOST_PER_SWEEP, push_waiting


class Command(JsonCommand):
    help = "Push finalised invoices to Stripe once. Exit code 1 when one of them did not get there."

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("--limit", type=int, default=MOST_PER_SWEEP, help="At most so many invoices.")

    def run(self, **options: Any) -> Mapping[str, Any]:
        if not stripe_gateway.is_configured():
            raise CommandError("Set STRIPE_SECRET_KEY (and STRIPE_API_BASE for a server that stands in for Stripe).")
        pushes = push_waiting(now=timezone.now(), limit=options["limit"])
        return {
            "tried": len(pushes),
            "invoices": [
                {
                    "number": push.invoice.number,
                    "state": push.state,
                    "stripe_id": push.stripe_id or "",
                    "error": push.last_error,
                }
                for push in pushes
            ],
        }

    def exit_code(self, result: Mapping[str, Any]) -> int:
        return int(any(row["state"] != PushState.PUSHED for row in result["invoices"]))
