"""What an invoice owes to earlier ones: late or corrected usage of closed periods, amounts too small to charge alone.

A closed period is rated again as long as late events could have reached it since the last invoice, by the same formula
and today's price book; the exact difference to what was charged for it so far becomes a line that names its period.
Nothing already invoiced is touched.
"""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import timedelta
from decimal import Decimal

from django.conf import settings
from django.db.models import Q

from billing.bills import Bill, BillLine, line_from_rating
from billing.models import InvoiceLine, Subscription
from billing.models.invoices import RATED_KINDS, LineKind
from billing.money import EXACT, ZERO, exact_sum, format_exact, format_money, minimum_charge, plain
from billing.periods import Period
from billing.rated_usage import RatedUsage, rate_period
from billing.schedules import PostedInvoice, invoices_of, posted_invoices

# An event is judged by when it arrived and counted when it is folded; a day is ample for what was under way.
FOLDING_MARGIN = timedelta(days=1)
CARRIED_IN = "carried-in"
CARRIED_OUT = "carried-out"


@dataclass(frozen=True, slots=True)
class Adjustments:
    lines: tuple[BillLine, ...]
    rated_again: tuple[RatedUsage, ...]


@dataclass(frozen=True, slots=True)
class _Charged:
    """What was charged so far under one line key of a closed period."""

    amount: Decimal
    quantity: Decimal
    included: Decimal
    billable: Decimal


NOTHING = _Charged(ZERO, ZERO, ZERO, ZERO)


def adjustments_for(subscription: Subscription) -> Adjustments:
    """The differences that the subscription's next invoice has to carry."""
    lines: list[BillLine] = []
    rated_again: list[RatedUsage] = []
    for invoice in still_adjustable(subscription):
        usage = rate_period(subscription, invoice.period, fees_due=False)
        differences = _differences(invoice, usage)
        lines += differences
        if differences or usage.rating.unpriced:
            rated_again.append(usage)
    return Adjustments(tuple(lines), tuple(rated_again))


def still_adjustable(subscription: Subscription) -> list[PostedInvoice]:
    """Invoices whose periods late events may have reached after the last invoice's figures were taken."""
    invoices = invoices_of(subscription)
    reach = timedelta(days=settings.LATE_WINDOW_DAYS) + FOLDING_MARGIN
    return [invoice for invoice in invoices if invoice.period.end > invoices[-1].finalised_at - reach]


def carried_in(subscription: Subscription) -> list[BillLine]:
    """The first line of the next bill: what the organisation's last invoice in this currency carried over."""
    posted = posted_invoices(subscription.organisation)
    last = next((invoice for invoice in reversed(posted) if invoice.currency == subscription.currency), None)
    if last is None:
        return []
    carried = InvoiceLine.objects.filter(invoice=last.pk, kind=LineKind.CARRY_OVER, key=CARRIED_OUT).first()
    if carried is None:
        return []
    amount = plain(carried.amount_exact.copy_negate())
    return [
        BillLine(
            key=CARRIED_IN,
            kind=LineKind.CARRY_OVER,
            description=f"Carried over from invoice {last.number}",
            amount_exact=amount,
            explanation=(
                f"Invoice {last.number} came to {format_exact(amount, last.currency)}, which was not charged then "
                f"and is added here in full"
            ),
            period=last.period,
        )
    ]


def carried_out(bill: Bill) -> BillLine:
    """The last line of a bill that is too small to be charged: brings it to exactly zero."""
    amount = format_exact(bill.total_exact, bill.currency)
    least = format_money(minimum_charge(bill.currency), bill.currency)
    return BillLine(
        key=CARRIED_OUT,
        kind=LineKind.CARRY_OVER,
        description="Carried over to the next invoice",
        amount_exact=plain(bill.total_exact.copy_negate()),
        explanation=f"{amount} is less than {least}, the least that can be charged: it moves to the next invoice",
        period=bill.period,
    )


def _differences(invoice: PostedInvoice, usage: RatedUsage) -> list[BillLine]:
    prefix = f"adjustment:{invoice.period.start:%Y%m%dT%H%MZ}:"
    charged, known = _charged_so_far(invoice, prefix)
    now = {line.key: line for line in map(line_from_rating, usage.rating.lines)}
    lines = []
    for key in dict.fromkeys([*now, *charged]):
        line = _difference(
            now.get(key), charged.get(key, NOTHING), known=known.get(key), invoice=invoice, key=prefix + key
        )
        if line is not None:
            lines.append(line)
    return lines


def _charged_so_far(invoice: PostedInvoice, prefix: str) -> tuple[dict[str, _Charged], dict[str, InvoiceLine]]:
    """Per line key of the period: the sums over its own invoice and later adjustments, and one such line."""
    rows = InvoiceLine.objects.filter(
        Q(invoice=invoice.pk, kind__in=RATED_KINDS)
        | Q(
            invoice__subscription=invoice.subscription_id,
            invoice__period_start__gt=invoice.period.start,
            kind=LineKind.ADJUSTMENT,
            key__startswith=prefix,
        )
    ).order_by("invoice_id", "position")
    by_key: dict[str, list[InvoiceLine]] = defaultdict(list)
    for row in rows:
        by_key[row.key.removeprefix(prefix)].append(row)
    return {key: _sum(lines) for key, lines in by_key.items()}, {key: lines[0] for key, lines in by_key.items()}


def _sum(rows: Iterable[InvoiceLine]) -> _Charged:
    rows = list(rows)
    return _Charged(
        amount=exact_sum(row.amount_exact for row in rows),
        quantity=exact_sum(row.quantity or ZERO for row in rows),
        included=exact_sum(row.included or ZERO for row in rows),
        billable=exact_sum(row.billable or ZERO for row in rows),
    )


def _difference(
    line: BillLine | None, charged: _Charged, *, known: InvoiceLine | None, invoice: PostedInvoice, key: str
) -> BillLine | None:
    """The line that brings what was charged to what is owed now; None where they agree."""
    current = NOTHING if line is None else _figures(line)
    if (current.amount, current.quantity) == (charged.amount, charged.quantity):
        return None
    template = line if line is not None else _as_bill_line(known)
    amount = _minus(current.amount, charged.amount)
    quantity = _minus(current.quantity, charged.quantity)
    currency = invoice.currency
    return replace(
        template,
        key=key,
        kind=LineKind.ADJUSTMENT,
        description=(
            f"{'Corrected' if quantity < 0 else 'Late'} usage in the period of invoice {invoice.number}: "
            f"{template.description}"
        )[:400],
        amount_exact=amount,
        quantity=quantity,
        included=_minus(current.included, charged.included),
        billable=_minus(current.billable, charged.billable),
        steps=(),
        explanation=(
            f"{'Nothing by now' if line is None else 'By now: ' + line.explanation}; charged before: "
            f"{format_exact(charged.amount, currency)}; difference: {format_exact(amount, currency)}"
        ),
    )


def _figures(line: BillLine) -> _Charged:
    return _Charged(line.amount_exact, line.quantity or ZERO, line.included or ZERO, line.billable or ZERO)


def _minus(left: Decimal, right: Decimal) -> Decimal:
    return plain(EXACT.subtract(left, right))


def _as_bill_line(row: InvoiceLine | None) -> BillLine:
    assert row is not None, "what was charged came from a line"
    return BillLine(
        key=row.key,
        kind=row.kind,
        description=row.description,
        amount_exact=row.amount_exact,
        explanation=row.explanation,
        period=Period(row.period_start, row.period_end),
        meter=row.meter,
        model=row.model,
        unit_price=row.unit_price,
        scale=row.scale,
        price_ids=tuple(row.price_ids),
    )
