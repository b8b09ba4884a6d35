"""A meter of every aggregation over one field, and what events say of them, worked out in plain Python."""

from collections.abc import Sequence
from decimal import Decimal
from typing import Any

from metering.models import Meter, Series, UsageDay, UsageInterval
from metering.models.meters import SUMMED

KINDS = ("sum", "count", "max", "min", "average", "latest", "unique_count")


def meter(key: str, **fields: Any) -> Meter:
    """A meter of `ai.usage`, by default the sum of `size` per model."""
    values = {"name": key, "event_type": "ai.usage", "aggregation": "sum", "unit": "things", "dimensions": ["model"]}
    values |= {} if fields.get("aggregation") == "count" else {"value_field": "size"}
    return Meter.objects.create(key=key, **(values | fields))


def meter_of_every_kind(**fields: Any) -> list[Meter]:
    """size_sum, size_count, … of the field `size`."""
    return [meter(f"size_{kind}", aggregation=kind, **fields) for kind in KINDS]


def kept(table: Any = UsageInterval) -> dict[tuple[str, str], list[tuple[Decimal, int]]]:
    """Meter and model -> value and count of every quarter hour, or day, that is kept."""
    names = dict(Meter.objects.values_list("pk", "key"))
    series = {row.id: (names[row.meter_id], row.model) for row in Series.objects.all()}
    found: dict[tuple[str, str], list[tuple[Decimal, int]]] = {}
    for row in table.objects.order_by("day" if table is UsageDay else "starts_at"):
        if series[row.series_id][0].startswith("size_"):
            found.setdefault(series[row.series_id], []).append((row.value, row.count))
    return found


def figure(kind: str, sizes: Sequence[Any]) -> Decimal:
    """What sizes, in the order of their time, come to; an average as it is kept, which is its sum."""
    if kind == "count":
        return Decimal(len(sizes))
    if kind in SUMMED:
        return sum(sizes, Decimal(0))
    return Decimal(
        {"max": max, "min": min, "latest": lambda all_: all_[-1], "unique_count": lambda all_: len(set(all_))}[kind](
            sizes
        )
    )
