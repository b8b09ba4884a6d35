"""Check an organisation from the bill down: invoices against events, totals against events, events against seals."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from django.core.management.base import CommandError, CommandParser
from django.utils import timezone

from accounts.commands import JsonCommand
from accounts.models import Organisation
from accounts.organisations import find_organisation
from billing.bill_checks import check_invoice, is_checkable, noted_seal
from billing.credit_checks import check_credits
from billing.models import Invoice
from metering.aggregation import compare_totals
from metering.seal_checks import check_seals

# More than this helps nobody; the counts are of all.
MOST_SHOWN = 200


class Command(JsonCommand):
    help = (
        "Check events against their seals and the chain of seals, totals against events, the quantities of "
        "invoices against events, and credit against invoices. Exit code 1 when something differs."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("--organisation", required=True, metavar="SLUG", help="Slug or org_… id.")
        parser.add_argument("--invoice", metavar="NUMBER", help="Check this invoice only; without it, all.")
        parser.add_argument(
            "--head", default="", metavar="DIGEST", help="A seal's digest noted earlier: the chain must contain it."
        )

    def run(self, **options: Any) -> Mapping[str, Any]:
        organisation = find_organisation(options["organisation"])
        invoices = _invoices(organisation, options["invoice"])
        self.stderr.write("Events against seals …")
        heads = {options["head"], *(noted_seal(invoice) for invoice in invoices)} - {""}
        sealed = check_seals(organisation, now=timezone.now(), heads=heads)
        self.stderr.write("Totals against events …")
        totals = compare_totals(organisation)
        self.stderr.write("Credit against invoices …")
        credit = check_credits(organisation)
        self.stderr.write("Invoices against events …")
        checkable = [invoice for invoice in invoices if is_checkable(invoice)]
        quantities = [finding for invoice in checkable for finding in check_invoice(invoice)]
        return {
            "organisation": organisation.public_id,
            "seals": sealed.seals,
            "head": sealed.head,
            "sealed_days_checked": sealed.days,
            "sealed_days_no_longer_kept": sealed.days_dropped,
            "events_checked": sealed.events,
            "invoices_checked": len(checkable),
            "invoices_no_longer_checkable": len(invoices) - len(checkable),
            "differences": len(sealed.findings) + len(totals) + len(quantities) + len(credit),
            "seal_findings": [asdict(finding) for finding in sealed.findings[:MOST_SHOWN]],
            "total_findings": [asdict(difference) for difference in totals[:MOST_SHOWN]],
            "credit_findings": [asdict(finding) for finding in credit[:MOST_SHOWN]],
            "invoice_findings": [asdict(finding) for finding in quantities[:MOST_SHOWN]],
        }

    def exit_code(self, result: Mapping[str, Any]) -> int:
        return 1 if result["differences"] else 0


def _invoices(organisation: Organisation, number: str | None) -> list[Invoice]:
    rows = Invoice.objects.for_organisation(organisation).order_by("pk")
    if number is None:
        return list(rows)
    found = list(rows.filter(number=number))
    if not found:
        raise CommandError(f"“{organisation.slug}” has no invoice {number}.")
    return found
