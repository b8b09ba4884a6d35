"""Months of calls on the lists that AI providers publish: rated by our rows, and by genai-prices call by call."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal

from genai_prices import Usage, calc_price

from billing.money import exact_sum
from billing.periods import QUARTER_HOUR, quarter_hour_floor
from billing.published_prices import PublishedModel, find_published
from billing.published_rows import rows_of
from billing.rating import PriceRow, RateCard, Rating, Reading
from tests.invoice_stories import Month

METERS = ("input_tokens", "cache_read_tokens", "cache_write_tokens", "output_tokens")
BY_TOKEN = RateCard(id="card", label="Tokens", meters=METERS)
CONTEXTS = {"batch": {"processing": "batch"}, "fast": {"speed": "fast"}}


@dataclass(frozen=True)
class Calls:
    """So many calls of one size, in the quarter hour that begins then in UTC. Input is what no cache had."""

    model: str
    at: str
    input: int
    output: int
    read: int = 0
    written: int = 0
    times: int = 1
    tier: str = ""
    ttl: str = ""

    @property
    def instant(self) -> datetime:
        return datetime.fromisoformat(self.at).replace(tzinfo=UTC)

    @property
    def prompt(self) -> int:
        return self.input + self.read + self.written


def bill_published(month: Month, provider: str, calls: Sequence[Calls]) -> Rating:
    """The bill by our rows, which must come to what the package says of the calls one by one."""
    models = {one.model: _published(one.model, provider) for one in calls}
    prices = [row for model, published in models.items() for row in rows_of(published, model)]
    usage = [reading for one in calls for reading in _readings(one, prices)]
    rating = month.bill(usage, [BY_TOKEN], prices)
    assert rating.unpriced == ()
    assert rating.total_exact == exact_sum(_theirs(one, provider) for one in calls)
    return rating


def _published(model: str, provider: str) -> PublishedModel:
    published = find_published(model, METERS, provider)
    assert published is not None, f"{model} is published"
    return published


def _readings(calls: Calls, prices: Sequence[PriceRow]) -> list[Reading]:
    """As metering counts them: exclusive pools, and the highest bound that the prompt of each call exceeds."""
    bounds = {row.conditions.context_above or 0 for row in prices if row.model == calls.model}
    tier = max(bound for bound in {0, *bounds} if calls.prompt > bound or not bound)
    start = quarter_hour_floor(calls.instant)
    labels = {"context_tier": str(tier), "service_tier": calls.tier, "cache_ttl": calls.ttl}
    used = zip(METERS, (calls.input, calls.read, calls.written, calls.output), strict=True)
    return [
        Reading(meter, calls.model, Decimal(units * calls.times), start, start + QUARTER_HOUR, labels)
        for meter, units in used
    ]


def _theirs(calls: Calls, provider: str) -> Decimal:
    written = {"cache_write_1h_tokens": calls.written} if calls.ttl == "1h" else {}
    price = calc_price(
        Usage(
            input_tokens=calls.prompt,
            cache_read_tokens=calls.read,
            cache_write_tokens=calls.written,
            output_tokens=calls.output,
            **written,
        ),
        calls.model,
        provider_id=provider,
        genai_request_timestamp=calls.instant,
        price_context=CONTEXTS.get(calls.tier, {"service_tier": calls.tier} if calls.tier else None),
    )
    return price.total_price * calls.times
