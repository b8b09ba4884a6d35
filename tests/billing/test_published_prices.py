"""Rows made of what providers publish rate any usage as the package they come from does, for every model it knows."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from genai_prices import Usage, calc_price
from genai_prices.data_snapshot import get_snapshot

from billing.periods import QUARTER_HOUR, Period
from billing.published_prices import PublishedModel, find_published, provider_ids, published_models
from billing.published_rows import rows_of
from billing.rating import PriceBook, RateCard, Reading, rate

METERS = ("input_tokens", "cache_read_tokens", "cache_write_tokens", "output_tokens", "requests")
INSTANTS = [datetime(2026, 11, 22, hour, 15, tzinfo=UTC) for hour in (0, 2, 5, 8, 17)]
INSTANTS += [datetime(2026, 8, 20, 3, tzinfo=UTC), datetime(2025, 6, 1, 12, tzinfo=UTC)]


def call(published: PublishedModel, at: datetime, usage: dict[str, int], labels: dict[str, str]) -> list[Reading]:
    """One call as our meters count it: exclusive pools, and the tier by the length of its prompt."""
    prompt = sum(units for meter, units in usage.items() if meter not in ("output_tokens", "requests"))
    bounds = {price.conditions.context_above or 0 for price in published.prices}
    reached = max(bound for bound in {0, *bounds} if prompt > bound or not bound)
    labels = labels | {"context_tier": str(reached)}
    return [
        Reading(meter, published.model, Decimal(units), at, at + QUARTER_HOUR, labels) for meter, units in usage.items()
    ]


def rated(published: PublishedModel, readings: Sequence[Reading], at: datetime) -> tuple[Decimal, int]:
    result = rate(
        readings,
        components=[RateCard(id="card", label="Tokens")],
        prices=PriceBook(rows_of(published), currency="USD"),
        period=Period(at, at + timedelta(days=1)),
        fee_period=None,
        currency="USD",
    )
    return result.total_exact, len(result.unpriced)


def theirs(published: PublishedModel, at: datetime, usage: dict[str, int], **context: str) -> Decimal:
    cached = {key: usage[key] for key in ("cache_read_tokens", "cache_write_tokens")}
    whole = usage["input_tokens"] + sum(cached.values())
    provider = get_snapshot().find_provider(None, published.provider, None)
    model = next(model for model in provider.models if model.id == published.model)
    price = model.calc_price(
        Usage(input_tokens=whole, output_tokens=usage["output_tokens"], **cached),
        provider,
        genai_request_timestamp=at,
        price_context=context or None,
    )
    return price.total_price


def usages(published: PublishedModel) -> Iterator[dict[str, int]]:
    """A short prompt, and one beyond each tier."""
    starts = {price.conditions.context_above for price in published.prices if price.conditions.context_above}
    for input_tokens in (1_234, *(start - 60 for start in starts), *(start + 1_000 for start in starts)):
        yield {
            "input_tokens": input_tokens - 111,
            "cache_read_tokens": 77,
            "cache_write_tokens": 34,
            "output_tokens": 4_321,
            "requests": 1,
        }


def is_priced_by_tokens(published: PublishedModel) -> bool:
    meters = {price.meter for price in published.prices}
    return {"input_tokens", "output_tokens"} <= meters


MODELS = [
    published
    for provider in provider_ids()
    for published in published_models(provider, METERS)
    if is_priced_by_tokens(published)
]


def test_nearly_every_published_model_has_rows() -> None:
    assert len(MODELS) > 2_000
    assert {"openai", "anthropic", "google", "deepseek", "mistral"} <= {published.provider for published in MODELS}


@pytest.mark.parametrize("provider", sorted({published.provider for published in MODELS}))
def test_usage_costs_what_the_package_says(provider: str) -> None:
    for published in (one for one in MODELS if one.provider == provider):
        instants = INSTANTS if any(price.windows for price in published.prices) else INSTANTS[-3:]
        for at in instants:
            for usage in usages(published):
                amount, unpriced = rated(published, call(published, at, usage, {}), at)
                assert (amount, unpriced and "requests") == (
                    theirs(published, at, usage),
                    0 if _prices_requests(published) else "requests",
                ), (published.model, at, usage)


@pytest.mark.parametrize("tier", ["batch", "priority", "flex"])
def test_service_tiers_cost_what_the_package_says(tier: str) -> None:
    context = {"processing": "batch"} if tier == "batch" else {"service_tier": tier}
    tiered = [one for one in MODELS if any(price.conditions.service_tier == tier for price in one.prices)]
    assert len(tiered) > 20
    for published in tiered:
        for at in INSTANTS[:1]:
            for usage in usages(published):
                amount, _ = rated(published, call(published, at, usage, {"service_tier": tier}), at)
                assert amount == theirs(published, at, usage, **context), (published.model, usage)


def test_cache_writes_for_an_hour_cost_more() -> None:
    sonnet = find_published("claude-sonnet-4-5", METERS, "anthropic")
    assert sonnet is not None
    at = INSTANTS[0]
    usage = {"input_tokens": 1_000, "cache_write_tokens": 500_000}
    readings = call(sonnet, at, usage, {"cache_ttl": "1h"})
    price = calc_price(
        Usage(input_tokens=501_000, cache_write_tokens=500_000, cache_write_1h_tokens=500_000),
        "claude-sonnet-4-5",
        provider_id="anthropic",
        genai_request_timestamp=at,
    )
    assert rated(sonnet, readings, at) == (price.total_price, 0)


def test_what_has_no_meter_or_condition_here_is_named() -> None:
    published = find_published("gpt-4.1", METERS, "openai")
    assert published is not None
    assert "web_searches_kcount has no meter here" in published.unmappable
    with_meter = find_published("gpt-4.1", (*METERS, "web_searches"), "openai")
    assert with_meter is not None
    assert [(price.amount, price.scale) for price in with_meter.prices if price.meter == "web_searches"] == [
        (Decimal(10), Decimal(1000))
    ]


def test_unknown_models_and_providers_are_nothing_to_guess_about() -> None:
    assert find_published("no-such-model-of-anybody", METERS) is None
    with pytest.raises(LookupError):
        published_models("no-such-provider", METERS)


def _prices_requests(published: PublishedModel) -> bool:
    return any(price.meter == "requests" for price in published.prices)
