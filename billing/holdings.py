"""What is left of grants, read from the ledger: as sums of entries, locked where something is to be drawn."""

from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Any

from django.db.models import Sum

from accounts.models import Organisation
from billing.drawing import Holding
from billing.models import CreditGrant, LedgerAccount, LedgerEntry
from billing.money import ZERO, plain


def remaining(grants: Sequence[CreditGrant]) -> dict[int, Decimal]:
    entries = LedgerEntry.objects.filter(grant__in=grants, account=LedgerAccount.REMAINING)
    sums = dict(entries.order_by().values_list("grant").annotate(Sum("amount")))
    return {grant.pk: plain(sums.get(grant.pk, ZERO)) for grant in grants}


def unused_holdings(organisations: Iterable[Organisation]) -> dict[int, list[Holding]]:
    """By the organisation's primary key: the grants of which something is left, in the order of their keys."""
    left = _unused(organisations)
    return _holdings(CreditGrant.objects.filter(pk__in=left).order_by("pk"), left) if left else {}


def locked_holdings(organisations: Iterable[Organisation]) -> dict[int, list[Holding]]:
    """The same, locked until the caller's transaction ends. One query where there is no credit."""
    unused = _unused(organisations)
    if not unused:
        return {}
    grants = locked_grants(CreditGrant.objects.filter(pk__in=unused))
    return _holdings(grants, remaining(grants))  # somebody may have taken something before they were locked


def locked_grants(grants: Any) -> list[CreditGrant]:
    """The rows of a queryset, locked in the order of their keys until the caller's transaction ends."""
    return list(grants.select_for_update(of=("self",), no_key=True).order_by("pk"))


def _unused(organisations: Iterable[Organisation]) -> dict[int, Decimal]:
    entries = LedgerEntry.objects.filter(organisation__in=organisations, account=LedgerAccount.REMAINING)
    sums = entries.order_by().values_list("grant").annotate(left=Sum("amount")).filter(left__gt=0)
    return {pk: plain(left) for pk, left in sums}


def _holdings(grants: Iterable[CreditGrant], left: Mapping[int, Decimal]) -> dict[int, list[Holding]]:
    found: dict[int, list[Holding]] = {}
    for grant in grants:
        if left[grant.pk] > 0:
            found.setdefault(grant.organisation_id, []).append(Holding(grant, left[grant.pk]))
    return found
