"""Readings: how much of one meter and model was used between two instants. What rating starts from."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from billing.money import require_decimal
from billing.periods import EmptyPeriod, Period, in_utc
from billing.rating.labels import NO_LABELS, Labels, labels_of


class ReadingOutsidePeriod(ValueError):
    code = "reading_outside_period"

    def __init__(self, reading: "Reading", period: Period) -> None:
        super().__init__(
            f"Usage of {reading.meter} from {reading.start.isoformat()} to {reading.end.isoformat()} does not lie in "
            f"the period from {period.start.isoformat()} to {period.end.isoformat()}."
        )


@dataclass(frozen=True, slots=True)
class Reading:
    """Usage within [start, end), cut by the caller wherever a price changes. A correction may be negative.

    What cannot be added up, such as a highest value or a count of different users, is one reading of the whole period.
    """

    meter: str
    model: str  # '' when the usage belongs to no model
    quantity: Decimal  # units of the meter
    start: datetime
    end: datetime
    labels: Mapping[str, str] = NO_LABELS  # the series' other dimensions; `project` where bills are kept apart by it
    is_additive: bool = True  # False: never added to another, never cut

    def __post_init__(self) -> None:
        object.__setattr__(self, "labels", labels_of(self.labels))
        require_decimal(self.quantity, "quantity")
        object.__setattr__(self, "start", in_utc(self.start))
        object.__setattr__(self, "end", in_utc(self.end))
        if self.start >= self.end:
            raise EmptyPeriod(self.start, self.end)

    @property
    def known(self) -> Labels:
        """The labels as what they are kept as."""
        assert isinstance(self.labels, Labels)
        return self.labels

    @property
    def place(self) -> tuple[datetime, str, str, datetime, tuple[tuple[str, str], ...]]:
        """Where it stands in a list of readings."""
        return self.start, self.meter, self.model, self.end, self.known.pairs
