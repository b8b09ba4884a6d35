"""Readings: how much of one meter and model was used between two instants. What rating starts from."""

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from billing.money import require_decimal
from billing.periods import EmptyPeriod, Period, in_utc


class ReadingOutsidePeriod(ValueError):
    code = "reading_outside_period"

    def __init__(self, reading: "Reading", period: Period) -> None:
        super().__init__(
            f"Usage of {reading.meter} from {reading.start.isoformat()} to {reading.end.isoformat()} does not lie in "
            f"the period from {period.start.isoformat()} to {period.end.isoformat()}."
        )


@dataclass(frozen=True, slots=True)
class Reading:
    """Usage within [start, end), cut by the caller wherever a price changes. A correction may be negative."""

    meter: str
    model: str  # '' when the usage belongs to no model
    quantity: Decimal  # units of the meter
    start: datetime
    end: datetime

    def __post_init__(self) -> None:
        require_decimal(self.quantity, "quantity")
        object.__setattr__(self, "start", in_utc(self.start))
        object.__setattr__(self, "end", in_utc(self.end))
        if self.start >= self.end:
            raise EmptyPeriod(self.start, self.end)
