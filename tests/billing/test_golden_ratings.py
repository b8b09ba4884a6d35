"""The demo plans rate as they always have: every line, digit for digit, against a rating stored once.

If this fails, a change of code has changed what published plans charge; the stored file is not to be written anew.
"""

import json
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from billing import rating
from billing.bills import line_from_rating
from billing.catalogue import components_of, newest_version
from billing.demo.offers import CURRENCY, PRICES, TOKEN_METERS, publish_plans, write_prices
from billing.models import Price
from billing.periods import Period
from billing.price_book import price_book

pytestmark = pytest.mark.django_db

GOLDEN = Path(__file__).parent / "golden_ratings.json"
NOVEMBER = Period(datetime(2026, 11, 1, tzinfo=UTC), datetime(2026, 12, 1, tzinfo=UTC))
DECEMBER = Period(datetime(2026, 12, 1, tzinfo=UTC), datetime(2027, 1, 1, tzinfo=UTC))


def readings() -> list[rating.Reading]:
    """A month of every model: uneven numbers of each meter, one correction, and more requests than the first tiers."""
    used = []
    for place, model in enumerate(sorted(PRICES), start=1):
        for step, meter in enumerate(TOKEN_METERS, start=1):
            quantity = Decimal(1_234_567 * place // step + 89 * step)
            used.append(rating.Reading(meter, model, quantity, NOVEMBER.start, NOVEMBER.end))
        used.append(rating.Reading("requests", model, Decimal(777 * place), NOVEMBER.start, NOVEMBER.end))
    used.append(rating.Reading("input_tokens", "gpt-4o", Decimal(-12_345), NOVEMBER.start, NOVEMBER.end))
    return used


def rated(plan: str) -> list[dict[str, Any]]:
    names = {price.public_id: f"{price.meter.key}/{price.model}" for price in Price.objects.select_related("meter")}
    rated = rating.rate(
        readings(),
        components=components_of(newest_version(plan)),
        prices=price_book(CURRENCY, NOVEMBER),
        period=NOVEMBER,
        fee_period=DECEMBER,
        currency=CURRENCY,
    )
    _, shares = rated.apportioned()
    return [
        {
            "key": ":".join(names.get(part, part) for part in line.key.split(":")),
            "kind": line_from_rating(line).kind.value,
            "quantity": str(line.quantity),
            "included": str(line.included),
            "billable": str(line.billable),
            "unit_price": str(line.unit_price),
            "amount": str(line.amount),
            "minor": share,
            "prices": [names[row_id] for row_id in line.price_row_ids],
            "explanation": line.explanation,
        }
        for line, share in zip(rated.lines, shares, strict=True)
    ]


@pytest.mark.parametrize("plan", ["pay-as-you-go", "team", "scale"])
def test_demo_plans_rate_as_they_always_have(plan: str) -> None:
    write_prices()
    publish_plans(NOVEMBER.start)
    assert rated(plan) == json.loads(GOLDEN.read_text())[plan]
