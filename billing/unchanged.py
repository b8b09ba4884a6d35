"""Whether a closed period would still be rated as it was when its subscription's last invoice was made.

Rating is a function of the totals of the period and of its terms: plans, prices, meters. Each invoice keeps what it was
rated by, of its own period and of earlier ones (`Invoice.rated_by`): a digest of the terms, and the newest change of
billed totals that was known. Where the terms are the same and no total of the period was written since, rating it again
would give what was charged. Where either is not known for certain, it is rated again.
"""

from collections.abc import Iterable, Sequence
from typing import Any

from accounts.models import Organisation
from billing.bills import Bill
from billing.evidence import instant
from billing.models import Subscription
from billing.periods import Period
from billing.rated_usage import terms_digest
from billing.schedules import PostedInvoice, invoices_of
from metering import billed_usage


def is_unchanged(subscription: Subscription, invoice: PostedInvoice) -> bool:
    """Whether the invoice's period comes to what it was charged by the subscription's invoices so far."""
    span = _span(subscription, invoice)
    return span is not None and not billed_usage.has_changed(span)


def look_up_changes(periods: Iterable[tuple[Subscription, PostedInvoice]]) -> None:
    """Remember for many periods at once what `is_unchanged` has to look up."""
    billed_usage.look_up_changes(span for one in periods if (span := _span(*one)) is not None)


def hold_still(organisations: Sequence[Organisation]) -> None:
    """Let nobody write the organisations' totals until the transaction that bills them ends. Raises TotalsBeingMade."""
    billed_usage.hold_totals(organisations)
    billed_usage.look_up_newest_changes(organisations)


def note_billed(bills: Iterable[tuple[Subscription, Bill]]) -> None:
    """Changes in what these bills charge for are kept from now on."""
    billed_usage.note_billed({subscription.organisation: bill.period.end for subscription, bill in bills})


def rated_by(subscription: Subscription, bill: Bill, earlier: Iterable[PostedInvoice]) -> dict[str, Any]:
    """What to keep with the invoice that this bill becomes: `earlier` are the closed periods that it has adjusted.

    A period with unpriced usage is left out: it is listed, and so rated, again each time.
    """
    unpriced = {usage.period for usage in bill.rated if usage.rating.unpriced}
    known = {invoice.period: invoice.prices_known_at for invoice in earlier}
    known |= {one.period: one.known_at for one in bill.rated[:1] if one.period == bill.period and one.known_at}
    terms = {
        instant(period.start): terms_digest(subscription, period, known_at)
        for period, known_at in known.items()
        if period not in unpriced
    }
    return {"changes": billed_usage.newest_change(subscription.organisation), "terms": terms}


def _span(subscription: Subscription, invoice: PostedInvoice) -> billed_usage.Span | None:
    """What must not have been written; None where the terms are others already."""
    kept = invoices_of(subscription)[-1].rated_by
    period: Period = invoice.period
    terms = kept.get("terms", {}).get(instant(period.start))
    if terms is None or terms != terms_digest(subscription, period, invoice.prices_known_at):
        return None
    return billed_usage.Span(subscription.organisation, period.start, period.end, kept["changes"])
