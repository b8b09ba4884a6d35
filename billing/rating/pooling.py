"""Commitments and caps over all plans of a period: one amount, of the plans' shares by time, against the charges of all
plans that had it."""

from collections import defaultdict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal

import msgspec

from billing.money import EXACT, ZERO, format_exact, plain
from billing.rating.bounds import Bound, Charge, level
from billing.rating.component import Component, Terms
from billing.rating.lines import Line, Rating
from billing.rating.sharing import part_in_words, share
from billing.rating.stretch import Stretch


@dataclass(slots=True)
class _Pooled:
    """A cap or minimum that several plans of the period have, and what each of them brings."""

    bound: Bound
    key: str
    amount: Decimal = ZERO
    counted: list[str] = field(default_factory=list)
    shares: list[str] = field(default_factory=list)


def levelled(
    stretches: Sequence[Stretch], parts: Sequence[Sequence[Component]], ratings: Sequence[Rating], terms: Terms
) -> list[Line]:
    charges: dict[str, Charge] = {}
    pooled: dict[Hashable, _Pooled] = {}
    for stretch, components, rated in zip(stretches, parts, ratings, strict=True):
        prefix = stretch.prefix(terms.period)
        for component in components:
            lines = [line for line in rated.lines if line.component_id == component.id]
            charges[prefix + component.id] = Charge(component.label, component.charged(lines))
        if stretch.is_charged:
            _pool(pooled, stretch, prefix, terms)
    bounds = {one.key: one for one in pooled.values()}
    components = [_as_bound(one, charges) for one in bounds.values()]
    return [_explained(line, bounds[line.component_id]) for line in level(components, charges, terms)]


def _pool(pooled: dict[Hashable, _Pooled], stretch: Stretch, prefix: str, terms: Terms) -> None:
    """Add the stretch's caps and minimums to those of the plans before that count what is called the same."""
    labels = {component.id: component.label for component in stretch.components if not isinstance(component, Bound)}
    seen: dict[Hashable, int] = defaultdict(int)
    for bound in stretch.components:
        if not isinstance(bound, Bound):
            continue
        what = bound.kind, frozenset(labels[id] for id in bound.of)
        place = *what, seen[what]
        seen[what] += 1
        one = pooled.setdefault(place, _Pooled(bound, prefix + bound.id))
        one.amount = EXACT.add(one.amount, share(bound.amount, stretch.period, terms.period))
        one.counted += [prefix + id for id in bound.of or labels]
        one.shares.append(
            f"{format_exact(bound.amount, terms.currency)} for {part_in_words(stretch.period, terms.period)}"
        )


def _as_bound(one: _Pooled, charges: dict[str, Charge]) -> Bound:
    counts_all = set(one.counted) == set(charges)
    return replace(one.bound, id=one.key, amount=plain(one.amount), of=() if counts_all else tuple(one.counted))


def _explained(line: Line, one: _Pooled) -> Line:
    return msgspec.structs.replace(line, explanation=f"{line.explanation} ({', then '.join(one.shares)})")
