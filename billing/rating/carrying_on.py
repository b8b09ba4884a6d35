"""What goes on from one plan of a period to the next: allowances, tiers and started packages.

An allowance is the plans' shares of it by time, drawn on in the order of usage. Tiers and packages count the units of
the whole period. The components of a stretch are made anew for its part of that.
"""

from collections import defaultdict
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal

from billing.money import EXACT, ZERO, exact_sum, format_exact, format_quantity, plain
from billing.periods import Period
from billing.rating.allowances import SharedAllowance
from billing.rating.bounds import Bound
from billing.rating.component import Component, MeterComponent
from billing.rating.flat_fee import FlatFee
from billing.rating.graduated import Graduated
from billing.rating.package import Package
from billing.rating.rate_card import RateCard
from billing.rating.readings import Reading
from billing.rating.sharing import part_in_words, share, share_of_units
from billing.rating.stretch import Stretch
from billing.rating.tiers import Tier
from billing.rating.volume import Volume

# A meter and what restricts the component that prices it: usage of the same place counts on from plan to plan.
type Place = tuple[str, Hashable]


@dataclass(slots=True)
class Counted:
    """What the stretches so far came to, by place."""

    billable: dict[Place, Decimal] = field(default_factory=lambda: defaultdict(Decimal))
    # Units sold in packages, by their size; and where the fee of a volume tier is charged already.
    packed: dict[tuple[Place, Decimal], Decimal] = field(default_factory=lambda: defaultdict(Decimal))
    tier_fees: set[Place] = field(default_factory=set)


@dataclass(frozen=True, slots=True)
class Usage:
    """What was used in each charged stretch, and how much of it the allowances cover."""

    used: tuple[dict[Place, Decimal], ...]
    covered: tuple[dict[Place, Decimal], ...]
    # The same of allowances that several meters share: what those would take of them.
    pooled: tuple[dict[Place, Decimal], ...]

    def billable(self, number: int, place: Place) -> Decimal:
        return EXACT.subtract(self.used[number].get(place, ZERO), self.covered[number].get(place, ZERO))


def usage_of(stretches: Sequence[Stretch], by_stretch: Sequence[Sequence[Reading]], whole: Period) -> Usage:
    used = [_used(stretch, readings) for stretch, readings in zip(stretches, by_stretch, strict=True)]
    covered = _covered(stretches, used, [_allowances(stretch) for stretch in stretches], whole)
    demands = [_demands(*one) for one in zip(stretches, used, covered, strict=True)]
    shared = [{place: allowance.units for place, allowance in _shared(stretch).items()} for stretch in stretches]
    return Usage(tuple(used), tuple(covered), tuple(_covered(stretches, demands, shared, whole)))


def _used(stretch: Stretch, readings: Sequence[Reading]) -> dict[Place, Decimal]:
    """What can be added up, by the place that counts it."""
    used: dict[Place, Decimal] = defaultdict(Decimal)
    if stretch.is_charged:
        for reading in readings:
            taker = next((component for component in stretch.components if component.covers(reading)), None)
            if taker is not None and reading.is_additive:
                place = reading.meter, taker.scope
                used[place] = EXACT.add(used[place], reading.quantity)
    return used


def _allowances(stretch: Stretch) -> dict[Place, Decimal]:
    """Units per whole period that the stretch's plan includes."""
    found: dict[Place, Decimal] = {}
    for component in stretch.components:
        if isinstance(component, MeterComponent):
            found[component.meter, component.scope] = component.included
        elif isinstance(component, RateCard):
            found |= {(meter, component.scope): units for meter, units in component.included.items()}
    return found


def _shared(stretch: Stretch) -> dict[Place, SharedAllowance]:
    cards = [component for component in stretch.components if isinstance(component, RateCard) and component.shared]
    return {_place_of(card.shared, card): card.shared for card in cards if card.shared}


def _place_of(shared: SharedAllowance, card: RateCard) -> Place:
    return "", (card.scope, frozenset(shared.weights.items()))


def _demands(stretch: Stretch, used: Mapping[Place, Decimal], covered: Mapping[Place, Decimal]) -> dict[Place, Decimal]:
    """What the stretch's usage would take of shared allowances, beyond what the meters' own cover."""
    demands: dict[Place, Decimal] = defaultdict(Decimal)
    for component in stretch.components:
        if isinstance(component, RateCard) and component.shared:
            pool = _place_of(component.shared, component)
            for meter, weight in component.shared.weights.items():
                rest = EXACT.subtract(
                    used.get((meter, component.scope), ZERO), covered.get((meter, component.scope), ZERO)
                )
                demands[pool] = EXACT.add(demands[pool], EXACT.multiply(max(ZERO, rest), weight))
    return demands


def _covered(
    stretches: Sequence[Stretch],
    used: Sequence[Mapping[Place, Decimal]],
    promises: Sequence[Mapping[Place, Decimal]],
    whole: Period,
) -> list[dict[Place, Decimal]]:
    """How much of each stretch's usage the allowances cover: in the order of time, no more than the plans of the period
    grant together, and no more than the plan then in force promises for the period or the plans until its end grant."""
    grants = [
        {place: share_of_units(units, stretch.period, whole) for place, units in promised.items()}
        if stretch.is_charged
        else {}
        for stretch, promised in zip(stretches, promises, strict=True)
    ]
    pool: dict[Place, Decimal] = _sums(grants)
    taken: dict[Place, Decimal] = defaultdict(Decimal)
    covered = []
    for number, (units, promised) in enumerate(zip(used, promises, strict=True)):
        here = {}
        for place, quantity in units.items():
            granted = _sums(grants[: _end_of_terms(promises, number, place)])
            reach = min(pool.get(place, ZERO), max(promised.get(place, ZERO), granted.get(place, ZERO)))
            here[place] = plain(max(ZERO, min(quantity, EXACT.subtract(reach, taken[place]))))
            taken[place] = EXACT.add(taken[place], here[place])
        covered.append(here)
    return covered


def _end_of_terms(promises: Sequence[Mapping[Place, Decimal]], number: int, place: Place) -> int:
    """Where another promise follows: a change to a plan that promises the same is none."""
    following = range(number + 1, len(promises))
    here = promises[number].get(place)
    return next((later for later in following if promises[later].get(place) != here), len(promises))


def _sums(parts: Sequence[Mapping[Place, Decimal]]) -> dict[Place, Decimal]:
    sums: dict[Place, Decimal] = defaultdict(Decimal)
    for part in parts:
        for place, units in part.items():
            sums[place] = EXACT.add(sums[place], units)
    return sums


def components_for(
    number: int, stretch: Stretch, *, usage: Usage, counted: Counted, whole: Period, currency: str
) -> tuple[list[Component], dict[str, str]]:
    """The stretch's components for its part of the period, going on from what was counted before it; and by component,
    what its lines should say about that."""
    components: list[Component] = []
    notes: dict[str, str] = {}
    part = part_in_words(stretch.period, whole)
    for component in stretch.components:
        if isinstance(component, FlatFee):
            components.append(replace(component, amount=share(component.amount, stretch.period, whole)))
            notes[component.id] = f" ({format_exact(component.amount, currency)} for {part})"
        elif isinstance(component, MeterComponent):
            carried, note = _carried_on(component, number, usage, counted)
            components.append(carried)
            notes[component.id] = note
        elif isinstance(component, RateCard):
            components.append(_card(component, number, usage))
        elif not isinstance(component, Bound):
            components.append(component)
    for place in usage.used[number]:
        counted.billable[place] = EXACT.add(counted.billable[place], usage.billable(number, place))
    return components, notes


def _card(component: RateCard, number: int, usage: Usage) -> RateCard:
    covered = {meter: units for (meter, scope), units in usage.covered[number].items() if scope == component.scope}
    shared = component.shared
    if shared is not None:
        shared = replace(shared, units=usage.pooled[number].get(_place_of(shared, component), ZERO))
    return replace(component, included=covered, shared=shared)


def _carried_on(component: MeterComponent, number: int, usage: Usage, counted: Counted) -> tuple[MeterComponent, str]:
    place: Place = component.meter, component.scope
    if place not in usage.used[number]:  # nothing, or what cannot be added up and is priced whole
        return component, ""
    covered, billable = usage.covered[number][place], usage.billable(number, place)
    before = counted.billable[place]
    match component:
        case Graduated():
            note = f" (tiers count on from {format_quantity(before)})" if before > 0 else ""
            return replace(component, included=covered, tiers=_tiers_from(component.tiers, before)), note
        case Volume():
            tier = _tier_reached(component, billable, usage, counted)
            note = " (the tier that the whole period reaches)" if before else ""
            return replace(component, included=covered, tiers=(tier,)), note
        case Package():
            begun = _left_in_package(counted.packed[place, component.scale], component.scale)
            counted.packed[place, component.scale] = EXACT.add(counted.packed[place, component.scale], billable)
            free = plain(max(ZERO, min(begun, billable)))
            note = f" ({format_quantity(free)} of these in a package begun before)" if free else ""
            return replace(component, included=plain(EXACT.add(covered, free))), note
        case _:
            return replace(component, included=covered), ""


def _tiers_from(tiers: Sequence[Tier], reached: Decimal) -> tuple[Tier, ...]:
    """The tiers that are left beyond the units counted before; the fee of one begun is charged already."""
    left: list[Tier] = []
    lower = ZERO
    for tier in tiers:
        if tier.up_to is None or tier.up_to > reached:
            up_to = None if tier.up_to is None else plain(EXACT.subtract(tier.up_to, max(ZERO, reached)))
            left.append(replace(tier, up_to=up_to, flat=ZERO if lower < reached else tier.flat))
        lower = tier.up_to or lower
    return tuple(left)


def _tier_reached(component: Volume, billable: Decimal, usage: Usage, counted: Counted) -> Tier:
    """The tier that the usage of the whole period reaches; its fee once."""
    place: Place = component.meter, component.scope
    total = exact_sum(usage.billable(number, place) for number in range(len(usage.used)))
    tier = next(tier for tier in component.tiers if tier.up_to is None or total <= tier.up_to)
    is_fee_due = billable > 0 and place not in counted.tier_fees
    if is_fee_due:
        counted.tier_fees.add(place)
    return Tier(None, tier.unit_price, tier.flat if is_fee_due else ZERO)


def _left_in_package(packed: Decimal, size: Decimal) -> Decimal:
    """Units that the package begun last still holds."""
    used = EXACT.remainder(packed, size) if packed > 0 else ZERO
    return EXACT.subtract(size, used) if used else ZERO
