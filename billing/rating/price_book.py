"""The price book as rating sees it: which row prices a meter, model and labels at an instant, and where prices change.

Indexes rows of one currency once and answers any number of questions. Of the rows whose conditions hold, these win, in
this order: the exact model over any model (''); the more specific conditions (`Conditions.rank`); a row whose weekly
window is open over one without windows; the latest valid_from; and of those the one given last, so that callers pass
rows in the order they became known. Does not load rows and does not choose between customer prices and provider costs.
"""

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from decimal import Decimal
from heapq import heappop, heappush

from billing.money import QUOTIENT, currency_named, require_decimal, require_positive
from billing.periods import EmptyPeriod, Period, in_utc
from billing.rating.conditions import ANYTHING, Conditions, labels_of_conditions
from billing.rating.labels import NO_LABELS, Labels
from billing.rating.windows import Windows


class DuplicatePriceRow(ValueError):
    code = "duplicate_price_row"

    def __init__(self, row_id: str) -> None:
        super().__init__(f"The price {row_id!r} is given more than once.")


@dataclass(frozen=True, slots=True)
class PriceRow:
    id: str
    meter: str
    model: str  # '' prices any model that has no row of its own
    amount: Decimal  # in the currency's major unit, for `scale` units
    scale: Decimal  # units the amount buys, for example 1,000,000
    valid_from: datetime
    valid_until: datetime | None  # None: until further notice
    currency: str
    windows: Windows | None = None  # None: at any time
    conditions: Conditions = ANYTHING
    # What decides between rows before windows and dates do.
    rank: tuple[int, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "rank", (bool(self.model), *self.conditions.rank))
        currency_named(self.currency)
        require_decimal(self.amount, "price")
        require_positive(self.scale, "scale")
        object.__setattr__(self, "valid_from", in_utc(self.valid_from))
        if self.valid_until is not None:
            object.__setattr__(self, "valid_until", in_utc(self.valid_until))
            if self.valid_from >= self.valid_until:
                raise EmptyPeriod(self.valid_from, self.valid_until)

    @property
    def holds_for(self) -> str:
        """Conditions and windows in words; empty where it holds for everything, at any time."""
        return ", ".join(str(part) for part in (self.conditions, self.windows) if part)


@dataclass(frozen=True, slots=True)
class PriceSpan:
    """A stretch of time, as long as possible, in which one row, or none, prices a meter and model."""

    row: PriceRow | None
    start: datetime | None  # None: since ever
    end: datetime | None  # None: until further notice
    cut: datetime | None = None  # when, before the end, a weekly window may next put another row in its place


@dataclass(frozen=True, slots=True)
class _Candidates:
    """The rows whose conditions hold for one meter, model and labels."""

    starts: list[datetime]  # of all spans but the first, which has none
    spans: list[PriceSpan]
    windowed: list[PriceRow]


class PriceBook:
    """Rows in other currencies are left out: they price nothing here."""

    def __init__(self, rows: Iterable[PriceRow], *, currency: str) -> None:
        self.currency = currency_named(currency).code
        self._rows: dict[tuple[str, str], list[PriceRow]] = defaultdict(list)
        self._candidates: dict[tuple[str, str, Labels], _Candidates] = {}
        self._changes: set[datetime] = set()
        self._windowed: list[tuple[PriceRow, Windows]] = []
        conditions: set[Conditions] = set()
        self._by_id: dict[str, PriceRow] = {}
        for row in rows:
            if row.id in self._by_id:
                raise DuplicatePriceRow(row.id)
            self._by_id[row.id] = row
            if row.currency == currency:
                self._rows[row.meter, row.model].append(row)
                self._changes.update(instant for instant in (row.valid_from, row.valid_until) if instant is not None)
                conditions.add(row.conditions)
                if row.windows is not None:
                    self._windowed.append((row, row.windows))
        # The labels that some price depends on: what readings have to be kept apart by.
        self.labels = frozenset[str]().union(*map(labels_of_conditions, conditions))

    def row(self, row_id: str) -> PriceRow | None:
        """The row of this id, if the book has it."""
        return self._by_id.get(row_id)

    def price(self, meter: str, *, model: str, instant: datetime, labels: Labels = NO_LABELS) -> PriceRow | None:
        """The row in force; None when there is no price."""
        return self.span(meter, model=model, instant=instant, labels=labels).row

    def span(self, meter: str, *, model: str, instant: datetime, labels: Labels = NO_LABELS) -> PriceSpan:
        """The row in force, or None, and how long before and after the instant that holds."""
        place = (meter, model, labels.only(self.labels))
        candidates = self._candidates.get(place)
        if candidates is None:
            candidates = self._candidates[place] = self._candidates_for(*place)
        span = candidates.spans[bisect_right(candidates.starts, instant)]
        return _in_window(candidates.windowed, instant, span) if candidates.windowed else span

    def highest(self, meter: str, *, model: str, instant: datetime) -> PriceRow | None:
        """The row by which a unit costs most, whatever its labels and the hour; None when there is no price.

        Rows for any model count where the model's own hold only under conditions or in windows.
        """
        own = self._newest(meter, model, instant) if model else []
        is_complete = any(row.windows is None and row.conditions == ANYTHING for row in own)
        rows = own if is_complete else [*own, *self._newest(meter, "", instant)]
        return max(rows, key=lambda row: QUOTIENT.divide(row.amount, row.scale), default=None)

    def boundaries(self, period: Period) -> list[datetime]:
        """The instants strictly inside the period at which any row begins or ends, in order: where to cut readings."""
        changes = {instant for instant in self._changes if period.start < instant < period.end}
        for row, windows in self._windowed:
            ends = period.end if row.valid_until is None else min(row.valid_until, period.end)
            changes.update(at for at in windows.boundaries(period) if row.valid_from <= at < ends)
        return sorted(changes)

    def _newest(self, meter: str, model: str, instant: datetime) -> list[PriceRow]:
        """Of the rows valid at the instant that say the same but for their dates, the one that wins."""
        newest: dict[tuple[Conditions, Windows | None], PriceRow] = {}
        for row in sorted(self._rows.get((meter, model), []), key=lambda row: row.valid_from):
            if row.valid_from <= instant and not _has_ended(row, instant):
                newest[row.conditions, row.windows] = row
        return list(newest.values())

    def _candidates_for(self, meter: str, model: str, labels: Labels) -> _Candidates:
        rows = [*self._rows.get((meter, ""), []), *(self._rows.get((meter, model), []) if model else [])]
        holding = [row for row in rows if row.conditions.hold_for(labels)]
        starts, spans = _spans_of([row for row in holding if row.windows is None])
        return _Candidates(starts, spans, [row for row in holding if row.windows is not None])


def _in_window(windowed: Iterable[PriceRow], instant: datetime, span: PriceSpan) -> PriceSpan:
    """The span of the row whose window the instant lies in, or else the span itself, with its next cut. Rows that the
    one without windows beats by model or conditions have no say."""
    rows = [row for row in windowed if span.row is None or row.rank >= span.row.rank]
    if not rows:
        return span
    changes = [span.end, *(_next_change(row, instant) for row in rows)]
    cut = min((change for change in changes if change is not None), default=None)
    holding = [row for row in rows if _holds(row, instant)]
    if not holding:
        return replace(span, cut=cut)
    row = max(reversed(holding), key=lambda row: (row.rank, row.valid_from))
    return PriceSpan(row, row.valid_from, row.valid_until, cut)


def _spans_of(rows: Sequence[PriceRow]) -> tuple[list[datetime], list[PriceSpan]]:
    """All spans, and the starts of all but the first, which has none."""
    starts: list[datetime] = []
    spans = [PriceSpan(None, None, None)]
    for start, row in _rows_in_force(rows):
        if row is not spans[-1].row:
            spans[-1] = PriceSpan(spans[-1].row, spans[-1].start, start)
            spans.append(PriceSpan(row, start, None))
            starts.append(start)
    return starts, spans


def _rows_in_force(rows: Sequence[PriceRow]) -> list[tuple[datetime, PriceRow | None]]:
    """Each instant at which a row begins or ends, with the row that wins from there on."""
    by_start = sorted(rows, key=lambda row: row.valid_from)
    places = {rank: -place for place, rank in enumerate(sorted({row.rank for row in rows}))}
    begun = 0
    winners: list[tuple[int, int]] = []  # heap of the rows begun, best first: minus its rank's place, minus its own
    in_force = []
    for instant in sorted({moment for row in rows for moment in (row.valid_from, row.valid_until) if moment}):
        while begun < len(by_start) and by_start[begun].valid_from <= instant:
            heappush(winners, (places[by_start[begun].rank], -begun))
            begun += 1
        while winners and _has_ended(by_start[-winners[0][1]], instant):
            heappop(winners)
        in_force.append((instant, by_start[-winners[0][1]] if winners else None))
    return in_force


def _holds(row: PriceRow, instant: datetime) -> bool:
    is_valid = row.valid_from <= instant and not _has_ended(row, instant)
    return is_valid and (row.windows is None or row.windows.contains(instant))


def _next_change(row: PriceRow, instant: datetime) -> datetime | None:
    """When the row may next begin or cease to hold; None: never."""
    if instant < row.valid_from:
        return row.valid_from
    if row.windows is None or _has_ended(row, instant):
        return None
    changes = (row.windows.next_change(instant), row.valid_until)
    return min((change for change in changes if change is not None), default=None)


def _has_ended(row: PriceRow, instant: datetime) -> bool:
    return row.valid_until is not None and row.valid_until <= instant
