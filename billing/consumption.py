"""What the overview shows of consumption: tokens so far, against the period before, and by day and model.

Reads metering's reports; adds nothing up that they have not. Money is not its business.
"""

from collections import defaultdict
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from accounts.models import Organisation
from billing.money import QUOTIENT, ZERO, exact_sum
from billing.periods import QUARTER_HOUR, Period, quarter_hour_floor
from metering import reports
from metering.buckets import bucket_starts, midnight

CHART_DAYS = 14
CHART_MODELS = 6
REQUESTS = "requests"
OTHER_MODELS = "other models"


@dataclass(frozen=True, slots=True)
class Consumption:
    """Tokens from the period's start to now."""

    tokens: Decimal
    requests: int
    # Tokens of the period before up to the same point; None where it had no usage to compare with.
    before: Decimal | None

    @property
    def change_percent(self) -> Decimal | None:
        """Whole percents, unsigned; see `is_up`."""
        if not self.before:
            return None
        share = QUOTIENT.divide(abs(self.tokens - self.before) * 100, self.before)
        return share.to_integral_value()

    @property
    def is_up(self) -> bool:
        return self.before is not None and self.tokens > self.before


def consumption(organisation: Organisation, period: Period, *, before: Period, now: datetime) -> Consumption:
    """Both figures run to the same point: as many quarter hours after their period's start."""
    end = min(quarter_hour_floor(now) + QUARTER_HOUR, period.end)
    same_point = min(before.start + (end - period.start), before.end)
    tokens, requests = _total(organisation, period.start, end)
    earlier, _ = _total(organisation, before.start, same_point)
    return Consumption(tokens, requests, earlier or None)


def month_containing(organisation: Organisation, now: datetime) -> Period:
    """The calendar month in the organisation's zone: what stands in for a billing period without a plan."""
    zone = organisation.zone
    first = now.astimezone(zone).date().replace(day=1)
    return Period(midnight(first, zone), midnight((first + timedelta(days=32)).replace(day=1), zone))


def daily_chart(organisation: Organisation, now: datetime) -> dict[str, Any] | None:
    """The last days by model, as the chart component takes it: the largest models, the rest as one. None: no usage."""
    zone = organisation.zone
    today = now.astimezone(zone).date()
    start, end = midnight(today - timedelta(days=CHART_DAYS - 1), zone), midnight(today + timedelta(days=1), zone)
    report = _usage(organisation, start, end, granularity="day", group_by=("model",))
    if not report.rows:
        return None
    days = bucket_starts(start, end, "day", zone)
    by_model: dict[str, dict[datetime, Decimal]] = defaultdict(dict)
    for row in report.rows:
        by_model[row.group[0]][row.start] = row.value
    return {
        "title": "Tokens by day and model",
        "caption": f"Last {CHART_DAYS} days, {organisation.time_zone}",
        "kind": "bar",
        "unit": "tokens",
        "label_heading": "Day",
        "labels": [_day_label(day.astimezone(zone)) for day in days],
        "series": _series(by_model, days),
    }


def _day_label(local: datetime) -> str:
    return f"{local.day} {local:%b}"


def _series(by_model: dict[str, dict[datetime, Decimal]], days: list[datetime]) -> list[dict[str, Any]]:
    ranked = sorted(by_model, key=lambda model: (-exact_sum(by_model[model].values()), model))
    shown = ranked if len(ranked) <= CHART_MODELS else ranked[: CHART_MODELS - 1]
    series = [
        {"name": model or "no model", "values": [by_model[model].get(day, ZERO) for day in days]} for model in shown
    ]
    rest = ranked[len(shown) :]
    if rest:
        values = [exact_sum(by_model[model].get(day, ZERO) for model in rest) for day in days]
        series.append({"name": OTHER_MODELS, "values": values})
    return series


def _total(organisation: Organisation, start: datetime, end: datetime) -> tuple[Decimal, int]:
    tokens = reports.token_meters()
    found = reports.quantities(organisation, start=start, end=end)
    requests = exact_sum(one.value for one in found if one.meter_key == REQUESTS)
    return exact_sum(one.value for one in found if one.meter_key in tokens), int(requests)


def _usage(organisation: Organisation, start: datetime, end: datetime, **options: Any) -> reports.UsageReport:
    filters = reports.UsageFilter(meters=reports.token_meters())
    return reports.usage(organisation, start=start, end=end, filters=filters, **options)
