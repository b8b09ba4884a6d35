"""The price book: adding rows, and handing them to rating.

Rows are only ever added; a correction is a new row with the same `valid_from`. Prices begin and end on quarter hours,
so that no interval of usage is split. Which row wins is rating's business, not this module's.
"""

from datetime import datetime, timedelta
from decimal import Decimal

from django.db import transaction
from django.http import HttpRequest

from accounts.audit import Actor, record
from accounts.errors import DomainError
from accounts.remembering import remembered
from billing import rating
from billing.models import Price, PriceKind
from billing.models.price_book import PriceRows
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


class PriceWindowsInvalid(DomainError):
    code = "invalid_windows"
    sentence = "These are not weekly windows."


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
    source: str = "operator",
    actor: Actor = None,
    request: HttpRequest | None = None,
) -> Price:
    """Add a row: `scale` units (the meter's display scale unless given) cost `amount` of the currency's major unit.

    An empty `model` prices every model without a row of its own. With weekly `windows`, in the words of
    `rating.parse_windows`, the row holds only in them. Backdating into a closed period inside the late window shows up
    on the next invoice as an adjustment.
    """
    require_possible(currency, valid_from, valid_until, windows)
    with transaction.atomic():
        price = Price.objects.create(
            kind=kind,
            meter=meter,
            model=model,
            currency=currency,
            amount=require_not_negative(amount, "price"),
            scale=require_positive(meter.display_scale if scale is None else scale, "scale"),
            valid_from=valid_from,
            valid_until=valid_until,
            windows=windows,
            source=source,
        )
        record(
            "price.added",
            organisation=None,
            actor=actor,
            subject_id=price.public_id,
            subject_label=f"{meter.key} {model or 'any model'}",
            details={"amount": str(price.amount), "currency": currency, "valid_from": valid_from.isoformat()},
            request=request,
        )
    return price


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


def price_book(currency: str, period: Period) -> rating.PriceBook:
    """The customers' list prices that may be in force somewhere in the period, and others around it, in the order they
    became known."""
    return _price_book(currency, *_months(period))


def cost_book(currency: str, period: Period) -> rating.PriceBook:
    """The provider's costs in the same way. Costs in other currencies are left out: nothing is converted."""
    return _cost_book(currency, *_months(period))


def _months(period: Period) -> tuple[datetime, datetime]:
    """The period widened to whole months of UTC, so that organisations whose periods differ by days share a book."""
    first = period.start.replace(day=1, hour=0, minute=0)
    return first, (period.end + timedelta(days=31)).replace(day=1, hour=0, minute=0)


@remembered
def _price_book(currency: str, start: datetime, end: datetime) -> rating.PriceBook:
    return _book(Price.objects.list_prices(currency).overlapping(start, end), currency)


@remembered
def _cost_book(currency: str, start: datetime, end: datetime) -> rating.PriceBook:
    return _book(Price.objects.provider_costs(currency).overlapping(start, end), currency)


def _book(prices: PriceRows, currency: str) -> rating.PriceBook:
    rows = prices.order_by("known_from", "pk").values_list(
        "public_id", "meter__key", "model", "amount", "scale", "valid_from", "valid_until", "windows"
    )
    return rating.PriceBook(
        (
            rating.PriceRow(
                id=public_id,
                meter=meter,
                model=model,
                amount=amount,
                scale=scale,
                valid_from=valid_from,
                valid_until=valid_until,
                currency=currency,
                windows=rating.parse_windows(windows) if windows else None,
            )
            for public_id, meter, model, amount, scale, valid_from, valid_until, windows in rows
        ),
        currency=currency,
    )
