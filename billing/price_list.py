"""The customers' price list in force at an instant, as a table: a row per model, a column per meter. Read only."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from billing.models import Price
from metering.models import Meter


@dataclass(frozen=True, slots=True)
class PriceCell:
    meter: str
    price: Price | None  # for everything, at any time
    otherwise: tuple[Price, ...] = ()  # for batches, long contexts, at certain hours of the week, instead


@dataclass(frozen=True, slots=True)
class PriceListRow:
    # Empty: every model without a row of its own.
    model: str
    cells: tuple[PriceCell, ...]


@dataclass(frozen=True, slots=True)
class PriceList:
    currency: str
    meters: tuple[Meter, ...]
    rows: tuple[PriceListRow, ...]


def price_lists(now: datetime) -> list[PriceList]:
    """One table per currency that has prices, in alphabetical order."""
    currencies = Price.objects.filter(kind="list").in_force(now).order_by("currency").values_list("currency", flat=True)
    return [price_list(currency, now) for currency in currencies.distinct()]


def price_list(currency: str, now: datetime) -> PriceList:
    in_force: dict[str, dict[tuple[int, str], Price]] = defaultdict(dict)
    for price in Price.objects.list_prices(currency).in_force(now):
        in_force[price.model][price.meter_id, price.holds_for] = price
    priced = {meter_id for prices in in_force.values() for meter_id, _ in prices}
    meters = tuple(Meter.objects.filter(pk__in=priced))
    models = sorted(in_force, key=lambda model: (not model, model))
    return PriceList(currency, meters, tuple(_row(model, in_force[model], meters) for model in models))


def _row(model: str, prices: dict[tuple[int, str], Price], meters: Sequence[Meter]) -> PriceListRow:
    return PriceListRow(model, tuple(_cell(prices, meter) for meter in meters))


def _cell(prices: dict[tuple[int, str], Price], meter: Meter) -> PriceCell:
    otherwise = [price for (meter_id, holds_for), price in prices.items() if meter_id == meter.pk and holds_for]
    return PriceCell(meter.name, prices.get((meter.pk, "")), tuple(otherwise))
