"""An invoice's lines as Stripe receives them: rounded amounts with the arithmetic in the text.

Stripe takes 250 lines at most. A longer invoice is pushed by kind of line and model; our own invoice keeps every line.
"""

import hashlib
from collections.abc import Callable, Iterable, Sequence
from itertools import groupby

from billing.models import InvoiceLine
from billing.stripe_gateway import MOST_LINES, RemoteLine

LONGEST_DESCRIPTION = 500


def remote_lines(lines: Sequence[InvoiceLine]) -> list[RemoteLine]:
    """One remote line per line while they fit, else one per kind and model, else per kind. Amounts always add up."""
    for grouping in (_by_position, _by_kind_and_model, _by_kind):
        groups = _grouped(lines, grouping)
        if len(groups) <= MOST_LINES:
            break
    return [_remote_line(key, members) for key, members in groups]


def digest_of_lines(lines: Iterable[RemoteLine]) -> str:
    """SHA-256 over keys and amounts: tells two versions of an invoice apart."""
    text = "\n".join(f"{line.key}={line.amount}" for line in lines)
    return hashlib.sha256(text.encode()).hexdigest()


def _by_position(line: InvoiceLine) -> str:
    return f"line-{line.position}"


def _by_kind_and_model(line: InvoiceLine) -> str:
    digest = hashlib.sha256(line.model.encode()).hexdigest()[:12]
    return f"{line.kind}-{digest}"


def _by_kind(line: InvoiceLine) -> str:
    return str(line.kind)


def _grouped(
    lines: Sequence[InvoiceLine], grouping: Callable[[InvoiceLine], str]
) -> list[tuple[str, list[InvoiceLine]]]:
    ordered = sorted(lines, key=lambda line: (grouping(line), line.position))
    groups = [(key, list(members)) for key, members in groupby(ordered, key=grouping)]
    return sorted(groups, key=lambda group: group[1][0].position)


def _remote_line(key: str, members: Sequence[InvoiceLine]) -> RemoteLine:
    first = members[0]
    if len(members) == 1:
        text = first.explanation if first.explanation.startswith(first.description) else _described(first)
    else:
        text = f"{first.get_kind_display()} {first.model}".strip() + f": {len(members)} lines, see the invoice"
    return RemoteLine(
        key=key,
        amount=sum(line.amount_minor for line in members),
        description=text[:LONGEST_DESCRIPTION],
        start=min(line.period_start for line in members),
        end=max(line.period_end for line in members),
    )


def _described(line: InvoiceLine) -> str:
    return f"{line.description}: {line.explanation}" if line.explanation else line.description
