"""A stretch: part of a period in which one plan held."""

from dataclasses import dataclass

from billing.periods import Period
from billing.rating.component import Component


@dataclass(frozen=True, slots=True, kw_only=True)
class Stretch:
    """Part of a period in which one plan held, or in which nothing was charged."""

    period: Period
    components: tuple[Component, ...]
    name: str  # of the plan, for explanations
    is_charged: bool = True

    def prefix(self, whole: Period) -> str:
        """Before the keys of its lines; those of the stretch that begins the period are as in an undivided one."""
        return "" if self.period.start == whole.start else f"{self.period.start:%Y%m%dT%H%MZ}/"
