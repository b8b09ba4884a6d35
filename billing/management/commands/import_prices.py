"""Propose prices from what providers publish, or from a CSV file, and accept them when told."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from django.core.management.base import CommandError, CommandParser
from django.utils import timezone

from accounts.commands import JsonCommand
from billing.models import PriceKind, PriceProposal, ProposedPrice
from billing.money import format_unit_price
from billing.price_files import read_prices_file
from billing.price_proposals import accept_proposal, propose_published, propose_rows

LISTED_ROWS = 200


class Command(JsonCommand):
    help = (
        "Compare the price book with what providers publish (package genai-prices), for the models in use or those of "
        "a provider, or with a CSV file. Stores what differs as a proposal; it becomes prices with --accept, or later "
        "in the admin or with --proposal."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("--file", type=Path, metavar="CSV", help="Rows as export_prices writes them.")
        parser.add_argument("--provider", default="", metavar="ID", help="All models of this one: openai, anthropic, …")
        parser.add_argument("--models", nargs="*", default=[], metavar="PATTERN", help="Only these: gpt-4* claude-*")
        parser.add_argument(
            "--kind", choices=PriceKind.values, default=PriceKind.COST, help="As provider costs, or as list prices."
        )
        parser.add_argument("--proposal", metavar="pprop_…", help="Accept one that was made before.")
        parser.add_argument("--accept", action="store_true", help="Add the rows to the price book.")

    def run(self, **options: Any) -> Mapping[str, Any]:
        now = timezone.now()
        proposal = self._proposal(options)
        listed = [_shown(row) for row in proposal.rows.select_related("meter", "instead_of")[:LISTED_ROWS]]
        added = accept_proposal(proposal, now=now, actor=self.actor) if options["accept"] else []
        return {
            "proposal": proposal.public_id,
            "source": proposal.source,
            "rows": proposal.rows.count(),
            "unchanged": proposal.unchanged_count,
            "unmappable": proposal.unmappable,
            "changes": listed,
            "added": len(added),
        }

    def _proposal(self, options: Mapping[str, Any]) -> PriceProposal:
        now = timezone.now()
        if options["proposal"]:
            found = PriceProposal.objects.filter(public_id=options["proposal"]).first()
            if found is None:
                raise CommandError(f"There is no proposal {options['proposal']!r}.")
            return found
        if options["file"]:
            with options["file"].open(encoding="utf-8-sig", newline="") as lines:
                rows = read_prices_file(lines)
            return propose_rows(rows, source=options["file"].name, now=now, actor=self.actor)
        return propose_published(
            now=now, kind=options["kind"], provider=options["provider"], models=options["models"], actor=self.actor
        )


def _shown(row: ProposedPrice) -> dict[str, Any]:
    before = row.instead_of
    return {
        "change": row.change,
        "meter": row.meter.key,
        "model": row.model,
        "origin": row.origin,
        "holds_for": row.holds_for,
        "price": format_unit_price(row.amount.normalize(), scale=row.scale, currency=row.currency),
        "before": before and format_unit_price(before.amount.normalize(), scale=before.scale, currency=before.currency),
        "valid_from": row.valid_from,
        "valid_until": row.valid_until,
    }
