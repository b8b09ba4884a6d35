"""Changing and taking back prices, which means adding rows; and what a change will do, before it is made."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from django.db import connection
from django.db.models import QuerySet
from django.http import HttpRequest

from accounts.audit import Actor
from billing.models import Invoice, Price
from billing.money import cost_of
from billing.price_book import CONDITION_FIELDS, add_price, require_possible
from billing.usage_labels import never_met

LOOK_BACK = timedelta(days=30)

USED = """
SELECT coalesce(sum(u.value), 0) FROM usage_interval u
JOIN series s ON s.organisation_id = u.organisation_id AND s.id = u.series_id
WHERE s.meter_id = %s AND (%s = '' OR s.model = %s) AND u.starts_at >= %s AND u.starts_at < %s"""


@dataclass(frozen=True, slots=True)
class ChangePreview:
    """A price beside the one that would take its place."""

    amount: Decimal
    scale: Decimal
    valid_from: datetime
    valid_until: datetime | None
    # What all organisations used of its meter and model in the last 30 days, whatever the conditions and whatever it
    # was charged by; and what that would come to.
    used: Decimal
    before_exact: Decimal
    after_exact: Decimal
    # Invoices of periods in which the new row would have held. They keep their prices.
    closed_periods: int
    # Why usage never meets the price's conditions.
    warnings: tuple[str, ...]


def preview_change(
    price: Price,
    *,
    amount: Decimal,
    scale: Decimal,
    valid_from: datetime,
    valid_until: datetime | None,
    now: datetime,
) -> ChangePreview:
    """What `change_price` would do. Raises what it raises for dates that cannot be."""
    require_possible(price.currency, valid_from, valid_until, price.windows)
    used = _used(price, now)
    return ChangePreview(
        amount=amount,
        scale=scale,
        valid_from=valid_from,
        valid_until=valid_until,
        used=used,
        before_exact=cost_of(used, price.amount, price.scale),
        after_exact=cost_of(used, amount, scale),
        closed_periods=Invoice.objects.filter(period_end__gt=valid_from).count(),
        warnings=tuple(never_met(price.meter, price.conditions)),
    )


def change_price(
    price: Price,
    *,
    amount: Decimal,
    scale: Decimal,
    valid_from: datetime,
    valid_until: datetime | None = None,
    actor: Actor = None,
    request: HttpRequest | None = None,
) -> Price:
    """Another amount for the same thing. From the same instant on it corrects the row, which it then supersedes; from a
    later one, the row holds until then. Raises PriceSuperseded and what `add_price` raises."""
    return add_price(
        price.meter,
        **_of_the_same(price),
        amount=amount,
        scale=scale,
        valid_from=valid_from,
        valid_until=valid_until,
        supersedes=price if valid_from == price.valid_from else None,
        actor=actor,
        request=request,
    )


def withdraw_price(price: Price, *, actor: Actor = None, request: HttpRequest | None = None) -> Price:
    """Take a row back, as if it had never been there; closed periods keep it. Raises PriceSuperseded."""
    return add_price(
        price.meter,
        **_of_the_same(price),
        amount=price.amount,
        scale=price.scale,
        valid_from=price.valid_from,
        valid_until=price.valid_until,
        supersedes=price,
        is_withdrawn=True,
        actor=actor,
        request=request,
    )


def history_of(price: Price) -> QuerySet[Price]:
    """Every row there ever was for the same kind, meter, model and currency, whatever its conditions; the newest
    first."""
    same = Price.objects.filter(kind=price.kind, meter=price.meter, model=price.model, currency=price.currency)
    return same.select_related("superseded_by").order_by(*CONDITION_FIELDS, "windows", "-valid_from", "-known_from")


def _of_the_same(price: Price) -> dict[str, Any]:
    return {
        "model": price.model,
        "currency": price.currency,
        "kind": price.kind,
        "windows": price.windows,
        "conditions": price.conditions,
    }


def _used(price: Price, now: datetime) -> Decimal:
    with connection.cursor() as cursor:
        cursor.execute(USED, [price.meter_id, price.model, price.model, now - LOOK_BACK, now])
        (used,) = cursor.fetchone()
    return Decimal(used)
