"""Published prices as rows that rating understands, to price usage without the price book."""

from collections.abc import Iterator

from billing import rating
from billing.published_prices import CURRENCY, PublishedModel


def rows_of(published: PublishedModel, model: str = "") -> Iterator[rating.PriceRow]:
    """The rows, for usage under the model's own name or under another."""
    for place, price in enumerate(published.prices):
        yield rating.PriceRow(
            id=f"{published.provider}/{published.model}/{place}",
            meter=price.meter,
            model=model or published.model,
            amount=price.amount,
            scale=price.scale,
            valid_from=price.valid_from,
            valid_until=price.valid_until,
            currency=CURRENCY,
            windows=rating.parse_windows(price.windows) if price.windows else None,
            conditions=price.conditions,
        )
