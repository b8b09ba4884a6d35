"""What an invoice owes to earlier ones: late or corrected usage of closed periods, amounts too small to charge alone.

A closed period is rated again as long as late events could have reached it since the last invoice and unless it is
known that none has (`unchanged`), by the same formula
and the price book as it stood when it was closed: what became known later changes no past, unless an operator corrects
it (`price_corrections`). The exact difference to what was charged for it so far becomes a line that names its period.
Nothing already invoiced is touched.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from typing import NamedTuple

import msgspec
from django.conf import settings
from django.db.models import Q

from accounts.remembering import remember, remembered
from billing.bills import Bill, BillLine, line_from_rating
from billing.models import InvoiceLine, Subscription
from billing.models.invoices import RATED_KINDS, LineKind
from billing.money import EXACT, ZERO, exact_sum, format_exact, format_money, minimum_charge, plain
from billing.periods import Period
from billing.rated_usage import RatedUsage, rate_period
from billing.schedules import PostedInvoice, invoices_of, posted_invoices
from billing.unchanged import is_unchanged

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


class _ChargedLine(NamedTuple):
    """The columns of an invoice's line that count here."""

    kind: str
    key: str
    amount_exact: Decimal
    quantity: Decimal | None
    included: Decimal | None
    billable: Decimal | None


def adjustments_for(subscription: Subscription) -> Adjustments:
    """The differences that the subscription's next invoice has to carry."""
    lines: list[BillLine] = []
    rated_again: list[RatedUsage] = []
    charged = _charged_lines(subscription)
    for invoice in to_rate_again(subscription):
        usage = rate_period(subscription, invoice.period, fees_due=False, known_at=invoice.prices_known_at)
        differences = differences_of(invoice, usage, charged)
        lines += differences
        if differences or usage.rating.unpriced:
            rated_again.append(usage)
    return Adjustments(tuple(lines), tuple(rated_again))


def still_adjustable(subscription: Subscription) -> list[PostedInvoice]:
    """Invoices whose periods late events may have reached after the last invoice's figures were taken, or whose prices
    were corrected since then."""
    invoices = invoices_of(subscription)
    reach = timedelta(days=settings.LATE_WINDOW_DAYS) + FOLDING_MARGIN
    return [
        invoice
        for invoice in invoices
        if invoice.period.end > invoices[-1].finalised_at - reach or invoice.corrected_after == invoices[-1].pk
    ]


def to_rate_again(subscription: Subscription) -> list[PostedInvoice]:
    """Of those that are still adjustable, the ones whose periods may come to something else by now."""
    return [invoice for invoice in still_adjustable(subscription) if not is_unchanged(subscription, invoice)]


def carried_in(subscription: Subscription) -> list[BillLine]:
    """The first line of the next bill: what the organisation's last invoice in this currency carried over."""
    posted = posted_invoices(subscription.organisation)
    last = next((invoice for invoice in reversed(posted) if invoice.currency == subscription.currency), None)
    if last is None or last.total_exact:  # what is carried over leaves exactly nothing
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


def look_up_charged_lines(subscriptions: Iterable[Subscription]) -> None:
    """Remember for many subscriptions at once what was charged so far for periods that may have to be adjusted."""
    for subscription, lines in _charged_lines_of(subscriptions).items():
        remember(_charged_lines, subscription, answer=lines)


def differences_of(
    invoice: PostedInvoice, usage: RatedUsage, charged_lines: Mapping[int, Sequence[_ChargedLine]]
) -> list[BillLine]:
    """What the usage rated now comes to, less what was charged for the invoice's period so far: a line each."""
    prefix = f"adjustment:{invoice.period.start:%Y%m%dT%H%MZ}:"
    charged = _charged_so_far(invoice.pk, charged_lines, prefix)
    now = {line.key: line for line in map(line_from_rating, usage.rating.lines)}
    lines = []
    for key in dict.fromkeys([*now, *charged]):
        line = _difference(now.get(key), charged.get(key, NOTHING), invoice=invoice, key=prefix + key)
        if line is not None:
            lines.append(line)
    return lines


def _charged_so_far(
    invoice: int, lines_of_invoices: Mapping[int, Sequence[_ChargedLine]], prefix: str
) -> dict[str, _Charged]:
    """Per line key of the period: the sums over its own invoice and the adjustments of later ones."""
    by_key: dict[str, list[_ChargedLine]] = defaultdict(list)
    for pk, lines in lines_of_invoices.items():
        for line in lines:
            if line.kind == LineKind.ADJUSTMENT and line.key.startswith(prefix):
                by_key[line.key.removeprefix(prefix)].append(line)
            elif pk == invoice and line.kind in RATED_KINDS:
                by_key[line.key].append(line)
    return {key: _sum(lines) for key, lines in by_key.items()}


@remembered
def _charged_lines(subscription: Subscription) -> dict[int, list[_ChargedLine]]:
    return _charged_lines_of([subscription])[subscription]


def charged_lines_of_all(subscription: Subscription) -> dict[int, list[_ChargedLine]]:
    """By invoice, for all of them: the lines that follow from usage."""
    found: dict[int, list[_ChargedLine]] = {invoice.pk: [] for invoice in invoices_of(subscription)}
    _fill(found)
    return found


def _charged_lines_of(subscriptions: Iterable[Subscription]) -> dict[Subscription, dict[int, list[_ChargedLine]]]:
    """By invoice, for those that are rated again and all after them, which may have adjusted them before."""
    found = {subscription: _from_first_rated_again(subscription) for subscription in subscriptions}
    _fill({pk: lines for invoices in found.values() for pk, lines in invoices.items()})
    return found


def _from_first_rated_again(subscription: Subscription) -> dict[int, list[_ChargedLine]]:
    first = next((invoice.period for invoice in to_rate_again(subscription)), None)
    return {invoice.pk: [] for invoice in invoices_of(subscription) if first is not None and invoice.period >= first}


def _fill(by_invoice: dict[int, list[_ChargedLine]]) -> None:
    rows = InvoiceLine.objects.filter(invoice__in=by_invoice, kind__in=[*RATED_KINDS, LineKind.ADJUSTMENT])
    for pk, *columns in rows.order_by("invoice_id", "position").values_list("invoice_id", *_ChargedLine._fields):
        by_invoice[pk].append(_ChargedLine(*columns))


def _sum(lines: Sequence[_ChargedLine]) -> _Charged:
    return _Charged(
        amount=exact_sum(line.amount_exact for line in lines),
        quantity=exact_sum(line.quantity or ZERO for line in lines),
        included=exact_sum(line.included or ZERO for line in lines),
        billable=exact_sum(line.billable or ZERO for line in lines),
    )


def _difference(line: BillLine | None, charged: _Charged, *, invoice: PostedInvoice, key: str) -> BillLine | None:
    """The line that brings what was charged to what is owed now; None where they agree."""
    current = NOTHING if line is None else _figures(line)
    if (current.amount, current.quantity) == (charged.amount, charged.quantity):
        return None
    template = line if line is not None else _as_charged(invoice, key)
    amount = _minus(current.amount, charged.amount)
    quantity = _minus(current.quantity, charged.quantity)
    currency = invoice.currency
    return msgspec.structs.replace(
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


def _as_charged(invoice: PostedInvoice, key: str) -> BillLine:
    """The line that first charged what is no longer there: the invoice's own, or else an adjustment."""
    own = key.split(":", 2)[2]
    row = InvoiceLine.objects.filter(
        Q(invoice=invoice.pk, key=own) | Q(invoice__subscription=invoice.subscription_id, key=key)
    ).earliest("invoice_id")
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
