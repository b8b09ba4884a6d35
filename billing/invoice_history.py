"""What became of an invoice, step by step, for people. Reads rows, decides nothing."""

from dataclasses import dataclass
from datetime import datetime

from billing.models import Invoice, InvoiceEmail, StripeInvoice
from billing.models.invoices import InvoiceState
from billing.money import format_money


@dataclass(frozen=True, slots=True)
class HistoryEntry:
    text: str
    # None: still to come, or when is not known.
    at: datetime | None


def history_of(invoice: Invoice, now: datetime) -> list[HistoryEntry]:
    """Oldest first; what is still to come last."""
    entries = [
        HistoryEntry("The period ended", invoice.period_end),
        HistoryEntry(f"Figures taken and invoice {invoice.number} finalised", invoice.finalised_at),
    ]
    email: InvoiceEmail | None = getattr(invoice, "announcement", None)
    if email is not None and email.sent_at is not None:
        entries.append(HistoryEntry(f"E-mail sent to {email.sent_to}", email.sent_at))
    push: StripeInvoice | None = getattr(invoice, "stripe_invoice", None)
    if push is not None and push.sent_at is not None:
        entries.append(HistoryEntry("Payment page opened", push.sent_at))
    entries.append(_outcome(invoice, now))
    return entries


def _outcome(invoice: Invoice, now: datetime) -> HistoryEntry:
    if invoice.state == InvoiceState.PAID and invoice.total_minor == 0:
        return HistoryEntry("Nothing to pay", invoice.paid_at)
    if invoice.state == InvoiceState.PAID:
        paid = format_money(invoice.amount_paid_minor or invoice.total_minor, invoice.currency)
        return HistoryEntry(f"Paid: {paid}", invoice.paid_at)
    if invoice.state == InvoiceState.VOID:
        return HistoryEntry("Declared void: nothing is owed", None)
    if invoice.state == InvoiceState.UNCOLLECTIBLE:
        return HistoryEntry("Given up as uncollectible", None)
    if invoice.state == InvoiceState.FINALISED:
        return HistoryEntry("The payment page is being prepared", None)
    return HistoryEntry("Overdue since" if invoice.due_at < now else "To be paid by", invoice.due_at)
