"""What usage is kept apart by, in the words of prices: metering's own names of context lengths as their lower ends.

A meter says what a prompt of which length is called; prices say lengths. And what a price asks for may be something
that its meter does not keep apart: then it never applies, which this module can tell.
"""

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from accounts.remembering import remembered
from billing import rating
from metering import reports
from metering.models import Meter, MeterRevision


def in_words_of_prices(meter: str, labels: Mapping[str, str]) -> Mapping[str, str]:
    """The labels, with the context tier as the number of tokens that every prompt in it has more than, in digits."""
    tier = labels.get(rating.CONTEXT_TIER)
    if tier is None:
        return labels
    return {**labels, rating.CONTEXT_TIER: _lower_ends().get((meter, tier), "")}


def never_met(meter: Meter, conditions: rating.Conditions) -> list[str]:
    """Why usage of the meter never meets these conditions, in words; empty where it can."""
    reasons = []
    definition = _newest_definition(meter)
    kept = {*definition.dimensions, *definition.tiers}
    for name in sorted(rating.labels_of_conditions(conditions) - kept):
        reasons.append(f"{meter.name} are not kept apart by {name.replace('_', ' ')}: add it to the meter.")
    if rating.CONTEXT_TIER in definition.tiers:
        ends = {int(end) for end in _ends(definition.tiers[rating.CONTEXT_TIER]) if end is not None}
        for bound in (conditions.context_above, conditions.context_up_to):
            if bound and bound not in ends:
                reasons.append(f"No context tier of {meter.name.lower()} ends at {bound:,} tokens.")
    return reasons


def _newest_definition(meter: Meter) -> Meter | MeterRevision:
    return _definitions(meter)[-1]


def _definitions(meter: Meter) -> list[Meter | MeterRevision]:
    return [meter, *sorted(meter.revisions.all(), key=lambda revision: revision.effective_from)]


@remembered
def meters_in_words() -> str:
    """What billing goes by of all meters: which there are, whether they are sums, parts of which, and their labels."""
    meters = sorted((meter.pk, meter.key, meter.aggregation, meter.part_of_id) for meter in reports.all_meters())
    return f"{meters} {sorted(_lower_ends().items())}"


@remembered
def _lower_ends() -> dict[tuple[str, str], str]:
    """(meter, label) -> tokens. Of revisions that use one label for several lengths, the newest counts."""
    found: dict[tuple[str, str], str] = {}
    for meter in Meter.objects.prefetch_related("revisions"):
        for definition in _definitions(meter):
            if rating.CONTEXT_TIER in definition.tiers:
                found |= {(meter.key, label): end for label, end in _steps(definition.tiers[rating.CONTEXT_TIER])}
    return found


def _steps(tiers: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Each tier's label and lower end."""
    lower = [Decimal(0), *_ends(tiers)]
    return [(step["label"], str(int(end or 0))) for step, end in zip(tiers["steps"], lower, strict=False)]


def _ends(tiers: Mapping[str, Any]) -> list[Decimal | None]:
    return [None if step.get("up_to") is None else Decimal(step["up_to"]) for step in tiers["steps"]]
