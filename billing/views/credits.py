"""Credit as the customer sees it: what is left, of what, in which order it is used, and every movement of it."""

from typing import Any

from django.core.paginator import Paginator
from django.http import HttpResponse
from django.utils import timezone
from django.views.decorators.http import require_safe

from accounts.access import MemberRequest, member_required
from accounts.pages import render_page
from billing.credit_statement import CURRENT, GrantState, balances, grant_states, movements, pays_for, prepaid_sum
from billing.models import CreditGrant, CreditPurchase, PrepaidTerms
from billing.plan_words import meter_names
from billing.prepaid import effective_balance
from billing.top_ups import top_ups_are_on

PAGE_SIZE = 20
# Of what is over, until all is asked for.
FEW_OVER = 5
MOST_OVER = 200
FEW_PURCHASES = 10


@member_required()
@require_safe
def credit(request: MemberRequest) -> HttpResponse:
    """The balance, each grant as a bar, and the history; `?over=all` shows everything that is over."""
    now = timezone.now()
    states = grant_states(request.organisation, now)
    over = [state for state in states if state.status not in CURRENT]
    shown = over[: MOST_OVER if request.GET.get("over") == "all" else FEW_OVER]
    moved = movements(CreditGrant.objects.for_organisation(request.organisation))
    purchases = CreditPurchase.objects.for_organisation(request.organisation)
    terms = PrepaidTerms.objects.filter(organisation=request.organisation).first()
    balance = effective_balance(request.organisation, terms.currency, now) if terms else None
    context: dict[str, Any] = {
        "active_nav": "credits",
        "terms": terms,
        "balance": balance,
        "sum": prepaid_sum(balance) if balance else [],
        "zone": request.organisation.zone,
        "balances": balances(states),
        "current": _with_words([state for state in states if state.status in CURRENT]),
        "over": _with_words(shown),
        "over_count": len(over),
        "purchases": Paginator(purchases, FEW_PURCHASES).get_page(request.GET.get("bought")),
        "can_buy": top_ups_are_on(),
        "page_obj": Paginator(moved, PAGE_SIZE).get_page(request.GET.get("page")),
    }
    return render_page(request, "billing/credits.html", context, part="prepaid")


def _with_words(states: list[GrantState]) -> list[dict[str, Any]]:
    names = meter_names() if states else {}
    return [{"state": state, "grant": state.grant, "pays_for": pays_for(state.grant, names)} for state in states]
