"""Short words for the parts of a bill, shared by the rating tests. Everything happens in November 2026."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from billing.periods import Period
from billing.rating import (
    Component,
    Graduated,
    PerUnit,
    PriceBook,
    PriceRow,
    RateCard,
    Rating,
    Reading,
    Tier,
    parse_windows,
    rate,
)

MILLION = Decimal(1_000_000)
NOVEMBER = Period(datetime(2026, 11, 1, tzinfo=UTC), datetime(2026, 12, 1, tzinfo=UTC))
DECEMBER = Period(datetime(2026, 12, 1, tzinfo=UTC), datetime(2027, 1, 1, tzinfo=UTC))
LONG_AGO = datetime(2025, 1, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)


def november(day: int, hour: int = 0) -> datetime:
    return NOVEMBER.start + timedelta(days=day - 1, hours=hour)


def used(quantity: str | int, meter: str = "input_tokens", model: str = "sonnet", *, day: int = 3) -> Reading:
    return Reading(meter, model, Decimal(quantity), november(day), november(day) + HOUR)


def price(
    amount: str,
    meter: str = "input_tokens",
    model: str = "sonnet",
    *,
    id: str = "",
    since: datetime = LONG_AGO,
    until: datetime | None = None,
    currency: str = "USD",
    scale: Decimal = MILLION,
    windows: str = "",
) -> PriceRow:
    open_at = parse_windows(windows) if windows else None
    row_id = id or f"price_{model}_{meter}"
    return PriceRow(row_id, meter, model, Decimal(amount), scale, since, until, currency, open_at)


def bill(
    readings: Sequence[Reading],
    components: Sequence[Component],
    rows: Sequence[PriceRow] = (),
    fee_period: Period | None = DECEMBER,
    costs: Sequence[PriceRow] = (),
) -> Rating:
    return rate(
        readings,
        components=components,
        prices=PriceBook(rows, currency="USD"),
        costs=PriceBook(costs, currency="USD"),
        period=NOVEMBER,
        fee_period=fee_period,
        currency="USD",
    )


def per_unit(unit_price: str = "0.02", meter: str = "requests", **more: Any) -> PerUnit:
    return PerUnit(id="unit", label="Requests", meter=meter, unit_price=Decimal(unit_price), **more)


def rate_card(**more: Any) -> RateCard:
    return RateCard(id="card", label="Tokens", **more)


def graduated(*tiers: Tier, **more: Any) -> Graduated:
    return Graduated(id="tiers", label="Calls", meter="calls", tiers=tiers, **more)


THREE_TIERS = (Tier(Decimal(100), Decimal("0.10")), Tier(Decimal(300), Decimal("0.05")), Tier(None, Decimal("0.01")))
