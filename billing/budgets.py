"""A budget an organisation could set itself, from what its periods came to and where this one is heading."""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import ROUND_CEILING, Decimal

from django.db.models import F, Q, Sum
from django.db.models.functions import Coalesce

from billing.models import Forecast, Invoice, Subscription
from billing.models.invoices import InvoiceState, LineKind
from billing.money import currency_named, minor_to_decimal

MONTHS = 6
# Room above a usual month, and above the largest.
TIGHT, ROOMY = Decimal("1.2"), Decimal("1.25")


@dataclass(frozen=True, slots=True)
class BudgetSuggestion:
    """Two amounts per period in minor units, and how often each would have been reached."""

    currency: str
    tight_minor: int
    roomy_minor: int
    # Totals of the last periods before credit, oldest first.
    totals_minor: tuple[int, ...]
    # Where the running period is heading; None: unknown.
    forecast_minor: int | None

    @property
    def tight_reached(self) -> int:
        return sum(total >= self.tight_minor for total in self.totals_minor)

    @property
    def roomy_reached(self) -> int:
        return sum(total >= self.roomy_minor for total in self.totals_minor)


def suggest_budget(subscription: Subscription, forecast: Forecast | None) -> BudgetSuggestion | None:
    """None where no period has come to anything and none is forecast to."""
    closed = Invoice.objects.filter(subscription=subscription).exclude(state=InvoiceState.VOID)
    by_credit = Coalesce(Sum("lines__amount_minor", filter=Q(lines__kind=LineKind.CREDIT)), 0)
    charged = closed.annotate(charged=F("total_minor") - by_credit)
    totals = list(charged.order_by("-period_start").values_list("charged", flat=True)[:MONTHS])[::-1]
    heading = forecast.total_minor if forecast else None
    known = [*totals, *([heading] if heading is not None else [])]
    if not any(total > 0 for total in known):
        return None
    return BudgetSuggestion(
        currency=subscription.currency,
        tight_minor=_rounded_up(_median(known) * TIGHT, subscription.currency),
        roomy_minor=_rounded_up(max(known) * ROOMY, subscription.currency),
        totals_minor=tuple(totals),
        forecast_minor=heading,
    )


def _median(totals: Sequence[int]) -> Decimal:
    ordered = sorted(totals)
    return Decimal(ordered[(len(ordered) - 1) // 2] + ordered[len(ordered) // 2]) / 2


def _rounded_up(minor: Decimal, currency: str) -> int:
    """To two digits of the major unit, the way people set budgets: 1234.56 becomes 1300."""
    major = max(Decimal(1), minor_to_decimal(int(minor.to_integral_value(ROUND_CEILING)), currency))
    step = Decimal(10) ** max(0, major.adjusted() - 1)
    whole = (major / step).to_integral_value(ROUND_CEILING) * step
    return int(whole.scaleb(currency_named(currency).decimals))
