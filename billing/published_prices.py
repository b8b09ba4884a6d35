"""What providers publish, as the package genai-prices knows it, as rows of our price book. Reads no database.

The package prices whole requests: of a model's entries the last that holds by date or time of day, with changes for a
service tier or for batches, and with tiers by the length of the prompt. Each becomes a row with conditions, windows and
dates, such that rating the same usage gives the same amount. What cannot be said so is named, never left out silently.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from decimal import Decimal
from importlib.metadata import version
from typing import Any

from genai_prices import types
from genai_prices.data_snapshot import get_snapshot

from billing import rating

SOURCE = f"genai-prices {version('genai-prices')}"
CURRENCY = "USD"
# What a price without a date of its own has held since, for all we know.
SINCE_EVER = datetime(2020, 1, 1, tzinfo=UTC)

# Their price -> our meter, and under which condition. Any other is taken where a meter has the name of their usage.
METERS = {
    "input_mtok": ("input_tokens", ""),
    "cache_read_mtok": ("cache_read_tokens", ""),
    "cache_write_mtok": ("cache_write_tokens", ""),
    "cache_write_5m_mtok": ("cache_write_tokens", "5m"),
    "cache_write_1h_mtok": ("cache_write_tokens", "1h"),
    "output_mtok": ("output_tokens", ""),
    "input_audio_mtok": ("audio_input_tokens", ""),
    "output_audio_mtok": ("audio_output_tokens", ""),
    "input_image_mtok": ("image_input_tokens", ""),
    "output_image_mtok": ("image_output_tokens", ""),
}
# How a price's name ends -> how the name of its usage ends, and how many of it the price buys.
UNITS = {
    "_mtok": ("_tokens", Decimal(1_000_000)),
    "_kcount": ("", Decimal(1_000)),
    "_kpages": ("_pages", Decimal(1_000)),
    "_hours": ("_seconds", Decimal(3_600)),
}
CACHE_LIFETIMES = ("cache_write_5m_mtok", "cache_write_1h_mtok")
# Without a price of their own, tokens of these cost what input costs.
AS_INPUT = ("cache_read_mtok", "cache_write_mtok")
SERVICE_TIERS = {("processing", "batch"): "batch", ("speed", "fast"): "fast"}


@dataclass(frozen=True, slots=True)
class PublishedPrice:
    meter: str
    amount: Decimal
    scale: Decimal
    valid_from: datetime
    valid_until: datetime | None = None
    windows: str = ""
    conditions: rating.Conditions = rating.ANYTHING


@dataclass(frozen=True, slots=True)
class PublishedModel:
    provider: str
    model: str
    prices: tuple[PublishedPrice, ...]
    unmappable: tuple[str, ...]  # in words, what we have no meter or condition for


@dataclass(frozen=True, slots=True)
class _Entry:
    """Prices that hold from a date on, or at a time of day, for one service tier."""

    prices: Mapping[str, Any]  # their price -> amount or tiers
    since: datetime = SINCE_EVER
    until: datetime | None = None
    windows: str = ""
    service_tier: str = ""


def provider_ids() -> list[str]:
    return [provider.id for provider in get_snapshot().providers]


def published_models(provider_id: str, meters: Iterable[str]) -> list[PublishedModel]:
    """Everything a provider publishes; LookupError if the package does not know it. `meters` are keys of ours."""
    provider = get_snapshot().find_provider(None, provider_id, None)
    known = frozenset(meters)
    return [_as_published(provider, model, known) for model in provider.models]


def find_published(model: str, meters: Iterable[str], provider_id: str | None = None) -> PublishedModel | None:
    """What is published for a model by any of its names; None where the package does not know it."""
    try:
        provider, info = get_snapshot().find_provider_model(model, None, provider_id, None)
    except LookupError:
        return None
    return _as_published(provider, info, frozenset(meters))


def _as_published(provider: types.Provider, model: types.ModelInfo, meters: frozenset[str]) -> PublishedModel:
    unmappable: dict[str, None] = {}
    prices: list[PublishedPrice] = []
    for entry in _entries(model, unmappable):
        for key, price in entry.prices.items():
            target = _target(key, meters)
            if target is None:
                unmappable[f"{key} has no meter here"] = None
            else:
                prices += _rows(entry, key, price, *target)
    return PublishedModel(provider.id, model.id, tuple(prices), tuple(unmappable))


def _target(key: str, meters: frozenset[str]) -> tuple[str, str] | None:
    if key in METERS:
        meter, ttl = METERS[key]
        return (meter, ttl) if meter in meters else None
    ending = _ending(key)
    meter = key.removesuffix(ending) + UNITS[ending][0] if ending else ""
    return (meter, "") if meter in meters else None


def _ending(key: str) -> str:
    return next((ending for ending in UNITS if key.endswith(ending)), "")


def _rows(entry: _Entry, key: str, price: Any, meter: str, ttl: str) -> Iterator[PublishedPrice]:
    """A row without a context length, and one for each tier by length."""
    base = PublishedPrice(
        meter=meter,
        amount=_amount_at(price, 0),
        scale=UNITS[_ending(key)][1],
        valid_from=entry.since,
        valid_until=entry.until,
        windows=entry.windows,
        conditions=rating.Conditions(service_tier=entry.service_tier, cache_ttl=ttl),
    )
    yield base
    for start in sorted(_tier_starts(price) | (_tier_starts(entry.prices.get("cache_write_mtok")) if ttl else set())):
        conditions = replace(base.conditions, context_above=start)
        yield replace(base, amount=_amount_at(price, start + 1), conditions=conditions)


def _entries(model: types.ModelInfo, unmappable: dict[str, None]) -> Iterator[_Entry]:
    """Every date, time of day and service tier with prices of its own, complete: nothing is inherited any more."""
    listed = model.prices if isinstance(model.prices, list) else [types.ConditionalPrice(prices=model.prices)]
    for place, one in enumerate(listed):
        later = listed[place + 1 :]
        entry = _entry(one, later)
        if entry is not None:
            yield _completed(entry)
    for variant in model.price_variants or ():
        tier = _tier_of(variant.when)
        if tier is None:
            unmappable["prices for " + ", ".join("=".join(pair) for pair in sorted(variant.when.items()))] = None
        elif tier:
            yield from _variant_entries(variant, tier, listed)


def _entry(one: types.ConditionalPrice, later: list[types.ConditionalPrice]) -> _Entry | None:
    """None where a later entry with an earlier date takes its place."""
    prices = _amounts(one.prices)
    starts = [_since(other) for other in later if not isinstance(other.constraint, types.TimeOfDateConstraint)]
    if isinstance(one.constraint, types.TimeOfDateConstraint):
        windows = f"daily {one.constraint.start_time:%H:%M}-{one.constraint.end_time:%H:%M} UTC"
        return _Entry(prices, windows=windows, until=min(starts, default=None))
    since = _since(one)
    return None if any(start <= since for start in starts) else _Entry(prices, since, min(starts, default=None))


def _completed(entry: _Entry) -> _Entry:
    """With prices for cached tokens, which cost what input costs where nothing else is said."""
    if "input_mtok" not in entry.prices:
        return entry
    missing = {key: entry.prices["input_mtok"] for key in AS_INPUT if key not in entry.prices}
    return replace(entry, prices={**entry.prices, **missing})


def _variant_entries(variant: types.PriceVariant, tier: str, listed: list[types.ConditionalPrice]) -> Iterator[_Entry]:
    """What a service tier changes. Where it prices some cache writes only, the others keep the standard price."""
    prices = _amounts(variant.prices)
    own = _amounts(listed[-1].prices)
    if "cache_write_mtok" in prices:
        prices |= {key: own[key] for key in CACHE_LIFETIMES if key in own and key not in prices}
    if "input_mtok" in prices:
        prices |= {key: prices["input_mtok"] for key in AS_INPUT if key not in prices and key not in own}
    since = variant.constraint.start_date if isinstance(variant.constraint, types.StartDateConstraint) else None
    yield _Entry(prices, SINCE_EVER if since is None else _midnight(since), service_tier=tier)


def _tier_of(when: Mapping[str, str]) -> str | None:
    """Our service tier for theirs; empty for the standard one, None where there is none."""
    if len(when) != 1:
        return None
    ((name, value),) = when.items()
    if name == "service_tier":
        return "" if value == "default" else value
    return SERVICE_TIERS.get((name, value))


def _amounts(prices: types.ModelPrice) -> dict[str, Any]:
    return {key: value for key, value in vars(prices).items() if value is not None}


def _since(entry: types.ConditionalPrice) -> datetime:
    constraint = entry.constraint
    return _midnight(constraint.start_date) if isinstance(constraint, types.StartDateConstraint) else SINCE_EVER


def _midnight(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=UTC)


def _tier_starts(price: Any) -> set[int]:
    return {tier.start for tier in price.tiers} if isinstance(price, types.TieredPrices) else set()


def _amount_at(price: Any, tokens: int) -> Decimal:
    if not isinstance(price, types.TieredPrices):
        return Decimal(price)
    reached = [tier.price for tier in price.tiers if tokens > tier.start]
    return reached[-1] if reached else price.base
