"""What every price component is: something that says which readings it covers and turns them into lines."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import ClassVar

from billing.money import EXACT, ZERO, exact_sum, plain, require_not_negative, require_positive
from billing.periods import Period
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

    def is_open_for(self, reading: Reading) -> bool:
        """Whether the reading lies in the component's windows. Raises ReadingStraddlesWindow."""
        if self.windows is None:
            return True
        change = self.windows.next_change(reading.start)
        if change is not None and change < reading.end:
            raise ReadingStraddlesWindow(reading, self.label, change)
        return self.windows.contains(reading.start)

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
    models: tuple[str, ...] = ()  # empty: all models

    def __post_init__(self) -> None:
        require_positive(self.scale, "scale")
        require_not_negative(self.included, "included allowance")

    def covers(self, reading: Reading) -> bool:
        is_of_model = not self.models or reading.model in self.models
        return reading.meter == self.meter and is_of_model and self.is_open_for(reading)

    def price(self, readings: Sequence[Reading], terms: Terms) -> Priced:
        quantity = plain(exact_sum(reading.quantity for reading in readings))
        return Priced((self.line_for(quantity, terms),)) if quantity else Priced(())

    @abstractmethod
    def line_for(self, quantity: Decimal, terms: Terms) -> Line: ...


def apply_allowance(quantity: Decimal, allowance: Decimal) -> tuple[Decimal, Decimal]:
    """(included, billable): how much the allowance covers, never more than either and nothing of a correction below
    zero, and what is left to price."""
    included = plain(max(ZERO, min(quantity, allowance)))
    return included, plain(EXACT.subtract(quantity, included))
