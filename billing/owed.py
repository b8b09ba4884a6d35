"""What is owed to a customer whose subscription ended: a last bill below zero, kept as credit.

The bill says so as its last line and comes to nothing; the credit pays later bills, those of another subscription
included, or is paid back. So nothing waits for an invoice that may never come. Less than the smallest coin is carried
over as ever.
"""

from decimal import Decimal
from typing import Any

from django.db.models import Q
from django.db.models.query import QuerySet

from billing.bills import Bill, BillLine, with_line
from billing.models import CreditGrant, GrantKind, Subscription
from billing.models.invoices import LineKind
from billing.models.subscriptions import SubscriptionState
from billing.money import format_exact, format_money, minor_to_decimal
from billing.schedules import goes_on_after

KEY = "owed"
# Credit that customers paid for, in fees or as such.
PAID_FOR = (GrantKind.OWED, GrantKind.PURCHASED)


def is_owed(subscription: Subscription, bill: Bill) -> bool:
    """Whether no invoice of the subscription follows that could take what the bill gives back."""
    return bill.total_minor < 0 and not goes_on_after(subscription, bill.period)


def with_owed_line(bill: Bill) -> Bill:
    """The bill brought to nothing by a line that says what is owed: its total, rounded once as any."""
    owed = minor_to_decimal(bill.owed_minor, bill.currency)
    line = BillLine(
        key=KEY,
        kind=LineKind.OWED,
        description="Owed to you, kept as credit",
        amount_exact=owed,
        explanation=(
            f"This last bill comes to {format_exact(bill.total_exact, bill.currency)}, so "
            f"{format_money(bill.owed_minor, bill.currency)} is owed to you. It pays bills of another plan, or is "
            f"paid back"
        ),
        period=bill.period,
    )
    return with_line(bill, line)


def amount_owed(bill: Bill) -> Decimal | None:
    """What its line says, for a bill that has one."""
    return next((line.amount_exact for line in bill.lines if line.kind == LineKind.OWED), None)


def owed_to_those_who_left() -> QuerySet[Any]:
    """Grants paid for, with something left, of organisations that had a subscription and have none; oldest first."""
    ended = Subscription.objects.filter(state=SubscriptionState.CANCELLED).values("organisation")
    current = Subscription.objects.current().values("organisation")
    grants: QuerySet[Any] = CreditGrant.objects.with_sums()
    left = grants.filter(left__gt=0, kind__in=PAID_FOR)
    return left.filter(Q(organisation__in=ended) & ~Q(organisation__in=current)).order_by("pk")
