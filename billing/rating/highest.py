"""The most that one unit of a meter can cost: what an admission is quoted at before the call has run. Pure.

An upper bound over everything that only shows once the call has run, or later: its length, its service tier, where it
runs, how much was used before it. Allowances, minimums, maximums and fees are left out.
"""

from collections.abc import Iterable
from datetime import datetime
from decimal import Decimal
from fnmatch import fnmatchcase

from billing.money import ONE, ZERO, cost_of
from billing.rating.component import Component
from billing.rating.cost_plus import CostPlus
from billing.rating.graduated import Graduated
from billing.rating.package import Package
from billing.rating.per_unit import PerUnit
from billing.rating.percentage import Percentage
from billing.rating.price_book import PriceBook
from billing.rating.rate_card import RateCard
from billing.rating.volume import Volume

type MeterPriced = PerUnit | Graduated | Volume | Package | Percentage


def highest_unit_price(
    components: Iterable[Component],
    meter: str,
    *,
    model: str,
    instant: datetime,
    prices: PriceBook,
    costs: PriceBook | None,
) -> Decimal | None:
    """In the currency's major unit; None where nothing prices it. An empty model stands for any without prices of its
    own."""
    found = None
    for component in components:
        if not _covers(component, meter) or not _may_be_of(model, component.only_models):
            continue
        price = _highest(component, meter, model, instant, prices, costs)
        if price is not None:
            found = price if found is None else max(found, price)
        is_conditional = component.windows or component.only_labels or component.only_projects
        if not is_conditional and (model or not component.only_models):
            break  # it prices whatever those before it leave
    return found


def _covers(component: Component, meter: str) -> bool:
    if isinstance(component, RateCard | CostPlus):
        return meter in component.meters
    return isinstance(component, PerUnit | Graduated | Volume | Package | Percentage) and component.meter == meter


def _may_be_of(model: str, patterns: tuple[str, ...]) -> bool:
    """A model without a name is any that a pattern with a wildcard can mean."""
    if not patterns:
        return True
    if model:
        return any(fnmatchcase(model, pattern) for pattern in patterns)
    return any(set(pattern) & set("*?[") for pattern in patterns)


def _highest(
    component: Component, meter: str, model: str, instant: datetime, prices: PriceBook, costs: PriceBook | None
) -> Decimal | None:
    match component:
        case RateCard():
            row = prices.highest(meter, model=model, instant=instant)
            return None if row is None else cost_of(component.multiplier, row.amount, row.scale)
        case CostPlus():
            row = costs.highest(meter, model=model, instant=instant) if costs else None
            return None if row is None else _bounded(component, cost_of(component.multiplier, row.amount, row.scale))
        case Graduated() | Volume():
            return cost_of(ONE, max((tier.unit_price for tier in component.tiers), default=ZERO), component.scale)
        case Percentage():
            return cost_of(ONE, component.percent, component.scale)
        case PerUnit() | Package():
            return cost_of(ONE, component.unit_price, component.scale)
    return None


def _bounded(component: CostPlus, price: Decimal) -> Decimal:
    if component.ceiling is not None:
        price = min(price, cost_of(ONE, component.ceiling, component.scale))
    if component.floor is not None:
        price = max(price, cost_of(ONE, component.floor, component.scale))
    return price
