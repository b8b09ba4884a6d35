"""Close a billing period: finalise its invoice."""

from collections.abc import Mapping
from typing import Any

from django.core.management.base import CommandError, CommandParser
from django.utils import timezone

from accounts.commands import JsonCommand
from accounts.models import Organisation
from accounts.organisations import find_organisation
from billing import schedules
from billing.invoicing import close_period
from billing.management.arguments import instant
from billing.models import Invoice, Subscription
from billing.money import minor_to_decimal


class Command(JsonCommand):
    help = (
        "Close the earliest open period of an organisation, or the one that starts at --period-start. "
        "Closing a closed period prints its invoice again."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("--organisation", required=True, metavar="SLUG")
        parser.add_argument("--period-start", type=instant, metavar="ISO", help="The start of the period to close.")
        parser.add_argument(
            "--skip-grace", action="store_true", help="Do not wait for late events after the period's end."
        )

    def run(self, **options: Any) -> Mapping[str, Any]:
        organisation = find_organisation(options["organisation"])
        start = options["period_start"]
        subscription = _subscription_to_close(organisation)
        invoice = close_period(
            subscription,
            period=schedules.period_containing(subscription, start) if start else None,
            now=timezone.now(),
            force_grace=options["skip_grace"],
            actor="close_period command",
        )
        return _facts(invoice)


def _subscription_to_close(organisation: Organisation) -> Subscription:
    """The oldest with a period left, else the newest: what an ended subscription still owes comes first."""
    subscriptions = list(Subscription.objects.for_organisation(organisation).order_by("pk"))
    if not subscriptions:
        raise CommandError(f"“{organisation.slug}” has no subscription.")
    return next((one for one in subscriptions if schedules.earliest_open_period(one)), subscriptions[-1])


def _facts(invoice: Invoice) -> Mapping[str, Any]:
    return {
        "number": invoice.number,
        "state": invoice.state,
        "period_start": invoice.period_start,
        "period_end": invoice.period_end,
        "currency": invoice.currency,
        "total": str(minor_to_decimal(invoice.total_minor, invoice.currency)),
        "total_minor": invoice.total_minor,
        "total_exact": format(invoice.total_exact, "f"),
        "lines": [
            {
                "description": line.description,
                "meter": line.meter,
                "model": line.model,
                "quantity": None if line.quantity is None else format(line.quantity, "f"),
                "amount_exact": format(line.amount_exact, "f"),
                "amount_minor": line.amount_minor,
            }
            for line in invoice.lines.all()
        ],
    }
