"""A bill by project: the same lines, each shared out over the projects whose usage it charges.

A line of usage is shared by the projects' quantities of its meter, model and time, to whole minor units by largest
remainder, so that projects and what belongs to none add up to the bill, and their parts of a line to the line. Fees,
commitments, discounts and carried amounts belong to no project. Quantities are today's totals.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Protocol

from accounts.models import Organisation
from billing.money import ZERO, exact_sum, format_quantity, minor_to_decimal, share_out
from billing.project_names import project_names, project_of
from metering import reports
from metering.usage_page import safe_cell

HEADER = [
    "project_id", "project", "line", "kind", "meter", "model", "from", "until", "quantity", "amount", "currency",
]  # fmt: skip


class LineLike(Protocol):
    @property
    def key(self) -> str: ...
    @property
    def kind(self) -> str: ...
    @property
    def description(self) -> str: ...
    @property
    def meter(self) -> str: ...
    @property
    def model(self) -> str: ...
    @property
    def amount_minor(self) -> int: ...
    @property
    def period_start(self) -> datetime: ...
    @property
    def period_end(self) -> datetime: ...


@dataclass(frozen=True, slots=True)
class LineShare:
    line: LineLike
    # In the meter's unit; None for what is no usage.
    quantity: Decimal | None
    amount_minor: int


@dataclass(frozen=True, slots=True)
class ProjectShare:
    # Empty for what belongs to no project.
    public_id: str
    name: str
    lines: tuple[LineShare, ...]
    total_minor: int


def by_project(organisation: Organisation, lines: Sequence[LineLike]) -> list[ProjectShare]:
    """Projects by name, then what belongs to none; only those with a line. The totals add up to the lines'."""
    found: dict[str, list[LineShare]] = {}
    quantities = _quantities(organisation, lines)
    for line in lines:
        for project, share in _shares(line, quantities):
            found.setdefault(project, []).append(share)
    names = project_names(organisation)
    shares = [
        ProjectShare(project, names.get(project, project), tuple(own), sum(share.amount_minor for share in own))
        for project, own in found.items()
    ]
    return sorted(shares, key=lambda share: (not share.public_id, share.name.lower(), share.public_id))


def csv_rows(shares: Iterable[ProjectShare], currency: str) -> Iterator[list[str]]:
    """Header, then a row for each project's part of each line."""
    yield HEADER
    for share in shares:
        for part in share.lines:
            line = part.line
            yield [
                share.public_id,
                safe_cell(share.name),
                safe_cell(line.description),
                line.kind,
                line.meter,
                safe_cell(line.model),
                line.period_start.isoformat(),
                line.period_end.isoformat(),
                "" if part.quantity is None else format_quantity(part.quantity).replace(",", ""),
                format(minor_to_decimal(part.amount_minor, currency), "f"),
                currency,
            ]


def _quantities(organisation: Organisation, lines: Sequence[LineLike]) -> list[reports.Quantity]:
    metered = [line for line in lines if line.meter]
    if not metered:
        return []
    edges = sorted({edge for line in metered for edge in (line.period_start, line.period_end)})
    return reports.quantities(organisation, start=edges[0], end=edges[-1], splits=edges[1:-1], dimensions=("project",))


def _shares(line: LineLike, quantities: Sequence[reports.Quantity]) -> Iterator[tuple[str, LineShare]]:
    """The line's parts, with the public id of the project of each; empty where it is no project's."""
    named = project_of(line)
    used: dict[str, Decimal] = {}
    for one in quantities:
        is_of_line = one.meter_key == line.meter and line.model in {"", one.model}
        if is_of_line and line.period_start <= one.start and one.end <= line.period_end:
            project = one.labels.get("project", "")
            used[project] = exact_sum((used.get(project, ZERO), one.value))
    if named:
        used = {named: used.get(named, ZERO) or Decimal(1)}
    weights = {project: quantity for project, quantity in used.items() if quantity > 0}
    if not line.meter or not weights:
        yield "", LineShare(line, None, line.amount_minor)
        return
    amounts = share_out(line.amount_minor, list(weights.values()))
    for (project, quantity), amount in zip(weights.items(), amounts, strict=True):
        yield project, LineShare(line, quantity, amount)
