"""Letting several meters keep apart what prices ask for, all from one instant on: service tier, context length, cache
lifetime, region.

A revision like any other: nothing that is counted already changes.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from django.db import transaction
from django.http import HttpRequest

from accounts.audit import Actor
from metering.defining import earliest_revision, revise_meter
from metering.models import Meter, MeterRevision

CONTEXT_TIER = "context_tier"
# The size of a call's context: whatever was in its prompt, cached or not.
CONTEXT_FIELDS = ("input_tokens", "cache_read_tokens", "cache_write_tokens")


def context_tier(bounds: Iterable[int]) -> dict[str, Any]:
    """The tier of a prompt's length, cut at these numbers of tokens; each label is where its tier begins."""
    cuts = sorted(set(bounds))
    steps = [{"up_to": str(end), "label": str(start)} for start, end in zip([0, *cuts], cuts, strict=False)]
    return {"fields": list(CONTEXT_FIELDS), "steps": [*steps, {"label": str(cuts[-1] if cuts else 0)}]}


@transaction.atomic
def keep_apart(
    meters: Sequence[Meter],
    *,
    names: Sequence[str] = (),
    context_bounds: Sequence[int] = (),
    now: datetime,
    actor: Actor,
    request: HttpRequest | None = None,
) -> list[MeterRevision]:
    """Add dimensions, and tiers of the context cut at these lengths, to what the meters keep apart; from the first
    quarter hour that no event of any can have reached. Those that do so already, and archived ones, stay as they are.
    """
    wanted = [(meter, *_widened(meter, names, context_bounds)) for meter in meters if meter.archived_at is None]
    changed = [one for one in wanted if _differs(*one)]
    at = max((earliest_revision(meter, now) for meter, *_ in changed), default=now)
    return [
        revise_meter(
            meter,
            dimensions=dimensions,
            tiers=tiers,
            filters=meter.latest_definition.filters,
            effective_from=at,
            now=now,
            actor=actor,
            request=request,
        )
        for meter, dimensions, tiers in changed
    ]


def _widened(meter: Meter, names: Sequence[str], bounds: Sequence[int]) -> tuple[list[str], dict[str, Any]]:
    latest = meter.latest_definition
    tiers = {**latest.tiers, CONTEXT_TIER: context_tier(bounds)} if bounds else latest.tiers
    taken = {*latest.dimensions, *tiers}
    kept = [one for one in latest.dimensions if one not in tiers]
    return [*kept, *(name for name in dict.fromkeys(names) if name not in taken)], tiers


def _differs(meter: Meter, dimensions: list[str], tiers: dict[str, Any]) -> bool:
    latest = meter.latest_definition
    return (dimensions, tiers) != (list(latest.dimensions), latest.tiers)
