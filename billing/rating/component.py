"""What every price component is: something that says which readings it covers and turns them into lines."""

from abc import ABC, abstractmethod
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from fnmatch import fnmatchcase
from functools import lru_cache
from typing import ClassVar

import msgspec

from billing.money import ZERO, exact_sum, plain, require_not_negative, require_positive
from billing.periods import Period
from billing.rating.conditions import tier_of
from billing.rating.labels import PROJECT, SERVICE_TIER, Labels
from billing.rating.lines import Line
from billing.rating.price_book import PriceBook
from billing.rating.readings import Reading
from billing.rating.windows import Windows


class ReadingStraddlesWindow(ValueError):
    code = "reading_straddles_window"

    def __init__(self, reading: Reading, label: str, change: datetime) -> None:
        super().__init__(
            f"Usage of {reading.meter} {reading.model} from {reading.start.isoformat()} to {reading.end.isoformat()} "
            f"must be cut where the windows of “{label}” change, at {change.isoformat()}."
        )


@dataclass(frozen=True, slots=True)
class Terms:
    """What holds for all components of one bill."""

    period: Period
    fee_period: Period | None  # what fees in advance are charged for; None when no period follows
    currency: str
    prices: PriceBook  # what customers pay
    costs: PriceBook  # what the provider charges us


@dataclass(frozen=True, slots=True)
class Priced:
    lines: tuple[Line, ...]
    unpriced: tuple[Reading, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Component(ABC):
    kind: ClassVar[str]

    id: str
    label: str
    windows: Windows | None = None  # prices only usage in these weekly windows; None: at any time
    only_models: tuple[str, ...] = ()  # names or shell-style patterns such as "claude-*"; empty: all models
    only_labels: tuple[tuple[str, tuple[str, ...]], ...] = ()  # label -> the values it prices; empty: all usage
    only_projects: tuple[str, ...] = ()  # public ids of projects; empty: all

    def is_open_for(self, reading: Reading) -> bool:
        """Whether the reading is of the models, labels and projects, and lies in the windows, that the component
        prices. Raises ReadingStraddlesWindow."""
        if self.only_models and not _is_one_of(reading.model, self.only_models):
            return False
        if self.only_projects and reading.labels.get(PROJECT) not in self.only_projects:
            return False
        if self.only_labels and not all(_value(reading.known, name) in among for name, among in self.only_labels):
            return False
        return self.windows is None or self._is_within(self.windows, reading)

    def _is_within(self, windows: Windows, reading: Reading) -> bool:
        if not reading.is_additive:
            return False
        change = windows.next_change(reading.start)
        if change is not None and change < reading.end:
            raise ReadingStraddlesWindow(reading, self.label, change)
        return windows.contains(reading.start)

    def labels_needed(self) -> frozenset[str]:
        """The labels that the component looks at."""
        return frozenset((*(name for name, _ in self.only_labels), *((PROJECT,) if self.only_projects else ())))

    @property
    def scope(self) -> Hashable:
        """What restricts the usage that it covers, besides the meter."""
        return self.windows, frozenset(self.only_models), frozenset(self.only_labels), frozenset(self.only_projects)

    @abstractmethod
    def covers(self, reading: Reading) -> bool: ...

    @abstractmethod
    def price(self, readings: Sequence[Reading], terms: Terms) -> Priced:
        """The lines for the readings, all of which this component covers."""

    def charged(self, lines: Sequence[Line]) -> Decimal:
        """What the component charges for the period billed, given its lines."""
        return exact_sum(line.amount for line in lines)


@dataclass(frozen=True, slots=True, kw_only=True)
class MeterComponent(Component):
    """A component that prices all usage of one meter in the period as one quantity."""

    meter: str
    scale: Decimal = Decimal(1)  # units that a unit price buys
    included: Decimal = ZERO  # units per period, over all its models

    def __post_init__(self) -> None:
        require_positive(self.scale, "scale")
        require_not_negative(self.included, "included allowance")

    def covers(self, reading: Reading) -> bool:
        return reading.meter == self.meter and self.is_open_for(reading)

    def price(self, readings: Sequence[Reading], terms: Terms) -> Priced:
        """One line; where totals cannot be added, one for each."""
        added = plain(exact_sum(reading.quantity for reading in readings if reading.is_additive))
        lines = [self.line_for(added, terms)] if added else []
        apart = sorted((reading for reading in readings if not reading.is_additive), key=lambda reading: reading.place)
        lines += [self._line_apart(reading, terms, is_only=len(apart) == 1) for reading in apart]
        return Priced(tuple(lines))

    def _line_apart(self, reading: Reading, terms: Terms, *, is_only: bool) -> Line:
        line = self.line_for(plain(reading.quantity), terms)
        if is_only:
            return line
        name = ", ".join(part for part in (reading.model, *reading.known.values()) if part)
        return msgspec.structs.replace(
            line, key=f"{line.key}:{name}", model=reading.model, description=f"{self.label}, {name}"
        )

    @abstractmethod
    def line_for(self, quantity: Decimal, terms: Terms) -> Line: ...


def _value(labels: Labels, name: str) -> str:
    return tier_of(labels) if name == SERVICE_TIER else labels.get(name, "")


@lru_cache(maxsize=65536)
def _is_one_of(model: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatchcase(model, pattern) for pattern in patterns)
