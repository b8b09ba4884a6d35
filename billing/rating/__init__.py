"""Rating: metered readings × price components → the lines of a bill, as a pure function.

`rate()` is the only place where usage becomes money; the live page, the forecast, the invoice and the tariff
comparison all call it. Amounts stay exact; only `Rating.apportioned()` rounds, once. The result depends neither on the
order of the readings nor on how finely the usage is cut into them. Usage without a price is reported, never zero and
never dropped.
Reads no clock, no settings and no database, and knows nothing of tax and credits.

One module per price model; a new one subclasses `Component` and is exported here.
"""

from billing.rating.allowances import SharedAllowance
from billing.rating.bounds import Bound, Maximum, Minimum, UnknownComponent, require_known
from billing.rating.component import Component, MeterComponent, ReadingStraddlesWindow, Terms
from billing.rating.conditions import ANYTHING, Conditions, InvalidContext, labels_of_conditions
from billing.rating.cost_plus import CostPlus, FloorAboveCeiling
from billing.rating.engine import DuplicateComponent, PriceBookCurrencyDiffers, boundaries, labels_needed, rate
from billing.rating.flat_fee import FlatFee
from billing.rating.graduated import Graduated
from billing.rating.highest import highest_unit_price
from billing.rating.labels import CACHE_TTL, CONTEXT_TIER, PROJECT, REGION, SERVICE_TIER, Labels, labels_of
from billing.rating.lines import Line, Rating, Step
from billing.rating.package import Package
from billing.rating.per_unit import PerUnit
from billing.rating.percentage import MeterCurrencyDiffers, Percentage
from billing.rating.price_book import DuplicatePriceRow, PriceBook, PriceRow, PriceSpan
from billing.rating.rate_card import RateCard, ReadingStraddlesPrice
from billing.rating.readings import Reading, ReadingOutsidePeriod
from billing.rating.sharing import part_in_words, share
from billing.rating.stretch import Stretch
from billing.rating.stretches import rate_stretches
from billing.rating.tiers import InvalidTiers, Tier
from billing.rating.volume import Volume
from billing.rating.windows import InvalidWindows, Windows, parse_windows

__all__ = [
    "ANYTHING",
    "CACHE_TTL",
    "CONTEXT_TIER",
    "PROJECT",
    "REGION",
    "SERVICE_TIER",
    "Bound",
    "Component",
    "Conditions",
    "CostPlus",
    "DuplicateComponent",
    "DuplicatePriceRow",
    "FlatFee",
    "FloorAboveCeiling",
    "Graduated",
    "InvalidContext",
    "InvalidTiers",
    "InvalidWindows",
    "Labels",
    "Line",
    "Maximum",
    "MeterComponent",
    "MeterCurrencyDiffers",
    "Minimum",
    "Package",
    "PerUnit",
    "Percentage",
    "PriceBook",
    "PriceBookCurrencyDiffers",
    "PriceRow",
    "PriceSpan",
    "RateCard",
    "Rating",
    "Reading",
    "ReadingOutsidePeriod",
    "ReadingStraddlesPrice",
    "ReadingStraddlesWindow",
    "SharedAllowance",
    "Step",
    "Stretch",
    "Terms",
    "Tier",
    "UnknownComponent",
    "Volume",
    "Windows",
    "boundaries",
    "highest_unit_price",
    "labels_needed",
    "labels_of",
    "labels_of_conditions",
    "parse_windows",
    "part_in_words",
    "rate",
    "rate_stretches",
    "require_known",
    "share",
]
