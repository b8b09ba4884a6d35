"""Short words for months told as stories: an organisation's month, price rows per million, and the bill as printed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from zoneinfo import ZoneInfo

from billing.money import format_money
from billing.periods import Cadence, Period, next_period, period_at
from billing.rating import Component, PriceBook, PriceRow, Rating, Reading, rate

MILLION = Decimal(1_000_000)
BERLIN = ZoneInfo("Europe/Berlin")


@dataclass(frozen=True)
class Month:
    """One organisation's month: a subscription anchored on the first, at local midnight."""

    period: Period
    following: Period
    currency: str = "USD"

    def bill(self, usage: Sequence[Reading], plan: Sequence[Component], prices: Sequence[PriceRow] = ()) -> Rating:
        return rate(
            usage,
            components=plan,
            prices=PriceBook(prices, currency=self.currency),
            period=self.period,
            fee_period=self.following,
            currency=self.currency,
        )

    def used(self, quantities: Mapping[tuple[str, str], int]) -> list[Reading]:
        """(model, meter) -> units, all in the month's second hour."""
        start = self.period.start + timedelta(hours=1)
        return [
            Reading(meter, model, Decimal(quantity), start, start + timedelta(hours=1))
            for (model, meter), quantity in quantities.items()
        ]


def month_of(year: int, month: int, zone: ZoneInfo = BERLIN, currency: str = "USD") -> Month:
    anchor = datetime(2026, 1, 1, tzinfo=zone)
    period = period_at(anchor, instant=datetime(year, month, 15, tzinfo=UTC), zone=zone, cadence=Cadence.MONTH)
    return Month(period, next_period(anchor, period=period, zone=zone, cadence=Cadence.MONTH), currency)


def per_million(model: str, meter: str, amount: str, currency: str = "USD", **when: datetime) -> PriceRow:
    since = when.get("since", datetime(2026, 1, 1, tzinfo=UTC))
    row_id = f"{model}/{meter}/{since:%m-%d}"
    return PriceRow(row_id, meter, model, Decimal(amount), MILLION, since, when.get("until"), currency)


def printed(rating: Rating) -> list[tuple[str, str]]:
    """The bill as the customer reads it: each line's text and amount, and the total."""
    total, shares = rating.apportioned()
    lines = zip(rating.lines, shares, strict=True)
    money = [(line.description, format_money(share, rating.currency)) for line, share in lines]
    return [*money, ("Total", format_money(total, rating.currency))]
