"""The price book: adding rows, and handing them to rating as they stand or as they stood.

Rows are only ever added. One that says something else of the same thing from the same instant supersedes it. Rows
become known in the order in which they are committed, so that "the book as known at" is never rewritten. Prices begin
and end on quarter hours, so that no interval of usage is split. Which row wins is rating's business, not this module's.
"""

from collections.abc import Mapping
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from django.db import connection, transaction
from django.db.models import Max
from django.http import HttpRequest
from django.utils import timezone

from accounts.audit import Actor, record
from accounts.errors import DomainError
from accounts.remembering import remembered
from billing import rating
from billing.models import Price, PriceKind
from billing.money import CURRENCIES, require_not_negative, require_positive
from billing.periods import Period, quarter_hour_floor
from metering.models import Meter


class PriceOffQuarterHour(DomainError):
    code = "price_off_quarter_hour"
    sentence = "Prices begin and end on a quarter hour: 10:00, 10:15, 10:30 or 10:45."


class PriceCurrencyUnknown(DomainError):
    code = "unknown_currency"
    sentence = "That is not a currency we can charge in: three capital letters such as USD or EUR."


class PriceEndsTooEarly(DomainError):
    code = "price_ends_too_early"
    sentence = "A price must end after it begins."


class PriceContextInvalid(DomainError):
    code = "invalid_context"
    sentence = "The upper end of a context length must lie above its lower end."


class PriceSuperseded(DomainError):
    code = "price_superseded"
    sentence = "Another row has taken this one's place meanwhile. Look at the history again."


class PriceWindowsInvalid(DomainError):
    code = "invalid_windows"
    sentence = "These are not weekly windows."


CONDITION_FIELDS = ("service_tier", "context_above", "context_up_to", "cache_ttl", "region")
# Whoever adds rows waits for whoever does, so that they become known in the order in which they are committed.
WRITING = "SELECT pg_advisory_xact_lock(hashtext('billing_price'))"


def add_price(
    meter: Meter,
    *,
    model: str,
    currency: str,
    amount: Decimal,
    valid_from: datetime,
    scale: Decimal | None = None,
    valid_until: datetime | None = None,
    kind: str = PriceKind.LIST,
    windows: str = "",
    conditions: rating.Conditions = rating.ANYTHING,
    source: str = "operator",
    supersedes: Price | None = None,
    is_withdrawn: bool = False,
    actor: Actor = None,
    request: HttpRequest | None = None,
) -> Price:
    """Add a row: `scale` units (the meter's display scale unless given) cost `amount` of the currency's major unit.

    An empty `model` prices every model without a row of its own. With weekly `windows`, in the words of
    `rating.parse_windows`, the row holds only in them, and with `conditions` only under them. It supersedes the row
    named, or else one that says the same but for the amount. Closed periods stay as they were: see `price_corrections`.
    """
    require_possible(currency, valid_from, valid_until, windows)
    price = Price(
        kind=kind,
        meter=meter,
        model=model,
        currency=currency,
        amount=require_not_negative(amount, "price"),
        scale=require_positive(meter.display_scale if scale is None else scale, "scale"),
        valid_from=valid_from,
        valid_until=valid_until,
        windows=windows,
        service_tier=conditions.service_tier,
        context_above=conditions.context_above,
        context_up_to=conditions.context_up_to,
        cache_ttl=conditions.cache_ttl,
        region=conditions.region,
        source=source,
        is_withdrawn=is_withdrawn,
    )
    with transaction.atomic():
        wait_for_writers()
        price.known_from = _next_known_from()
        price.supersedes = _still_standing(supersedes) if supersedes is not None else _same_but_for_the_amount(price)
        price.save(force_insert=True)
        _record(price, actor=actor, request=request)
    return price


def wait_for_writers() -> None:
    """Until the transaction ends, nobody else adds rows."""
    with connection.cursor() as cursor:
        cursor.execute(WRITING)


def _next_known_from() -> datetime:
    """Now, or a moment after the newest row where the clock says otherwise: no two rows become known at once."""
    newest = Price.objects.aggregate(newest=Max("known_from"))["newest"]
    return timezone.now() if newest is None else max(timezone.now(), newest + timedelta(microseconds=1))


def _still_standing(price: Price) -> Price:
    if not Price.objects.standing().filter(pk=price.pk).exists():
        raise PriceSuperseded
    return price


def _same_but_for_the_amount(price: Price) -> Price | None:
    same = {name: getattr(price, name) for name in SAME}
    return Price.objects.standing().filter(**same).order_by("pk").last()


# Two rows that agree in these cannot both hold: the later one supersedes the earlier.
SAME = (
    "kind",
    "meter",
    "model",
    "currency",
    "valid_from",
    "valid_until",
    "windows",
    *CONDITION_FIELDS,
)


def _record(price: Price, *, actor: Actor, request: HttpRequest | None) -> None:
    details = {"amount": str(price.amount), "currency": price.currency, "valid_from": price.valid_from.isoformat()}
    details |= {"holds_for": price.holds_for} if price.holds_for else {}
    details |= {"supersedes": price.supersedes.public_id} if price.supersedes else {}
    record(
        "price.withdrawn" if price.is_withdrawn else "price.added",
        organisation=None,
        actor=actor,
        subject_id=price.public_id,
        subject_label=f"{price.meter.key} {price.model or 'any model'}",
        details=details,
        request=request,
    )


def conditions_from(values: Mapping[str, Any]) -> rating.Conditions:
    """The fields of a form or a row as conditions. Raises PriceContextInvalid."""
    try:
        return rating.Conditions(**values)
    except rating.InvalidContext as error:
        raise PriceContextInvalid from error


def require_possible(currency: str, valid_from: datetime, valid_until: datetime | None, windows: str = "") -> None:
    """Raises PriceCurrencyUnknown, PriceOffQuarterHour, PriceEndsTooEarly or PriceWindowsInvalid."""
    try:
        rating.parse_windows(windows) if windows else None
    except rating.InvalidWindows as error:
        raise PriceWindowsInvalid(str(error)) from error
    if currency not in CURRENCIES:
        raise PriceCurrencyUnknown
    if any(instant and quarter_hour_floor(instant) != instant for instant in (valid_from, valid_until)):
        raise PriceOffQuarterHour
    if valid_until is not None and valid_until <= valid_from:
        raise PriceEndsTooEarly


def price_book(currency: str, period: Period, *, known_at: datetime | None = None) -> rating.PriceBook:
    """The customers' list prices that may be in force somewhere in the period, and others around it, in the order they
    became known: as the book stands, or as it stood at `known_at`."""
    return _book(PriceKind.LIST, currency, *_years(period), known_at or book_known_at())


def cost_book(currency: str, period: Period, *, known_at: datetime | None = None) -> rating.PriceBook:
    """The provider's costs in the same way. Costs in other currencies are left out: nothing is converted."""
    return _book(PriceKind.COST, currency, *_years(period), known_at or book_known_at())


@remembered
def book_known_at() -> datetime | None:
    """When the newest row became known: names the book as it stands, so that it can be asked for again. Null without
    rows."""
    newest: datetime | None = Price.objects.aggregate(newest=Max("known_from"))["newest"]
    return newest


def _years(period: Period) -> tuple[datetime, datetime]:
    """The period widened to whole years of UTC, so that neighbouring periods and other organisations share a book."""
    first = period.start.replace(month=1, day=1, hour=0, minute=0)
    return first, period.end.replace(year=period.end.year + 1, month=1, day=1, hour=0, minute=0)


@remembered
def _book(kind: str, currency: str, start: datetime, end: datetime, known_at: datetime | None) -> rating.PriceBook:
    if known_at is None:
        return rating.PriceBook((), currency=currency)
    rows = Price.objects.filter(kind=kind, currency=currency).known_at(known_at).overlapping(start, end)
    return rating.PriceBook(map(_row, rows.order_by("known_from", "pk").values_list(*ROW)), currency=currency)


ROW = (
    *("public_id", "meter__key", "model", "amount", "scale", "valid_from", "valid_until", "currency", "windows"),
    *CONDITION_FIELDS,
)


def _row(values: tuple[Any, ...]) -> rating.PriceRow:
    public_id, meter, model, amount, scale, valid_from, valid_until, currency, windows, *conditions = values
    return rating.PriceRow(
        id=public_id,
        meter=meter,
        model=model,
        amount=amount,
        scale=scale,
        valid_from=valid_from,
        valid_until=valid_until,
        currency=currency,
        windows=rating.parse_windows(windows) if windows else None,
        conditions=rating.Conditions(*conditions),
    )
