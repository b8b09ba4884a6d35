"""Bill and invoice lines arranged for reading: by what they are, and usage by model. Adds up shares, computes no price.

Takes lines of a running bill and rows of an invoice alike: both carry the same names.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from billing.models.invoices import LineKind

ORDER = (
    (LineKind.CARRY_OVER, "Carried over"),
    (LineKind.FLAT_FEE, "Fees"),
    (LineKind.USAGE, "Usage"),
    (LineKind.COMMITMENT, "Commitments and caps"),
    (LineKind.ADJUSTMENT, "Adjustments for earlier periods"),
    (LineKind.DISCOUNT, "Discounts"),
    (LineKind.CREDIT, "Paid by credit"),
    (LineKind.OWED, "Owed to you"),
)


class LineLike(Protocol):
    @property
    def kind(self) -> str: ...
    @property
    def model(self) -> str: ...
    @property
    def amount_minor(self) -> int: ...


@dataclass(frozen=True, slots=True)
class LineGroup:
    # Name of the model; empty for lines that belong to none.
    model: str
    lines: tuple[LineLike, ...]
    total_minor: int


@dataclass(frozen=True, slots=True)
class Section:
    kind: str
    title: str
    groups: tuple[LineGroup, ...]
    total_minor: int


def sections_of(lines: Iterable[LineLike]) -> list[Section]:
    """Sections in a fixed order, each with its lines in the bill's order."""
    every = list(lines)
    sections = []
    for kind, title in ORDER:
        of_kind = [line for line in every if line.kind == kind]
        if of_kind:
            sections.append(Section(kind, title, _groups(of_kind), sum(line.amount_minor for line in of_kind)))
    return sections


def _groups(lines: Sequence[LineLike]) -> tuple[LineGroup, ...]:
    models = dict.fromkeys(line.model for line in lines)
    return tuple(_group(model, [line for line in lines if line.model == model]) for model in models)


def _group(model: str, lines: Sequence[LineLike]) -> LineGroup:
    return LineGroup(model, tuple(lines), sum(line.amount_minor for line in lines))
