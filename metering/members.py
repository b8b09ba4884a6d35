"""Members of an event's data: how a meter's paths, conditions and tiers read them. Pure; knows no database.

`metering.aggregation.members` says the same in SQL and the customer's verifier says it once more; tests compare them.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from metering.exact import exact_sum

# A text that stands for a number.
DECIMAL_TEXT = re.compile(r"-?[0-9]{1,60}(\.[0-9]{1,60})?([eE][+-]?[0-9]{1,3})?")

EQUAL, DIFFERENT = frozenset({"eq", "in"}), frozenset({"ne", "not_in"})
COMPARING = frozenset({"gt", "gte", "lt", "lte"})
PRESENCE = frozenset({"exists", "absent"})
OPERATORS = ("eq", "ne", "in", "not_in", "exists", "absent", "gt", "gte", "lt", "lte")


@dataclass(frozen=True, slots=True)
class Condition:
    """Something that an event's data must fulfil.

    eq, in: the member is one of these texts, numbers by their value, true and false by these words. ne, not_in: it is
    none of them, or not there. gt, gte, lt, lte: it is a number, or a text that holds one, and compares so. exists,
    absent: it is there and not null, or it is not.
    """

    field: str
    operator: str
    # Texts to compare with; of a comparison one number as text; none for exists and absent.
    values: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Tiers:
    """A dimension made of a size: the sum of the fields that are there decides which label an event gets."""

    fields: tuple[str, ...]
    # (largest size that gets the label, label), rising; the last has None and takes the rest.
    steps: tuple[tuple[Decimal | None, str], ...]


def read_member(data: Mapping[str, Any], path: str) -> Any:
    """The member of this name or, where there is none, the one that the path's dots lead to through objects."""
    if path in data:
        return data[path]
    found: Any = data
    for name in path.split("."):
        found = found.get(name) if isinstance(found, Mapping) else None
    return found


def readable_number(value: Any) -> Decimal | None:
    """The number that a metered value stands for; None: it is none that folding can read."""
    if isinstance(value, Decimal):
        return value if value.is_finite() else None
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return Decimal(value)
    if isinstance(value, str) and DECIMAL_TEXT.fullmatch(value):
        return Decimal(value)
    return None


def scalar_text(value: Any) -> str | None:
    """A text as it is, a number in its shortest form without an exponent, true or false; None: nothing of the kind."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, Decimal) and value.is_finite():
        text = f"{value:f}"
        text = text.rstrip("0").rstrip(".") if "." in text else text
        return "0" if text == "-0" else text
    return None


def lets_through(conditions: Iterable[Condition], data: Mapping[str, Any]) -> bool:
    """Whether all conditions hold."""
    return all(_holds(condition, read_member(data, condition.field)) for condition in conditions)


def tier_of(tiers: Tiers, data: Mapping[str, Any]) -> str | None:
    """The label of an event's size; None: none of the fields holds a number."""
    sizes = [size for path in tiers.fields if (size := readable_number(read_member(data, path))) is not None]
    if not sizes:
        return None
    total = exact_sum(sizes)
    return next(label for largest, label in tiers.steps if largest is None or total <= largest)


def conditions_of(stored: Iterable[Mapping[str, Any]]) -> tuple[Condition, ...]:
    """Conditions from the JSON in which a meter keeps them."""
    return tuple(Condition(one["field"], one["operator"], tuple(one.get("values", ()))) for one in stored)


def tiers_of(stored: Mapping[str, Any]) -> dict[str, Tiers]:
    """Tiers by name from the JSON in which a meter keeps them."""
    return {
        name: Tiers(
            tuple(one["fields"]),
            tuple(
                (None if step.get("up_to") is None else Decimal(step["up_to"]), step["label"]) for step in one["steps"]
            ),
        )
        for name, one in stored.items()
    }


def _holds(condition: Condition, value: Any) -> bool:
    operator = condition.operator
    if operator in PRESENCE:
        return (value is not None) == (operator == "exists")
    if operator in COMPARING:
        number = readable_number(value)
        return number is not None and _compares(number, operator, Decimal(condition.values[0]))
    return (scalar_text(value) in condition.values) == (operator in EQUAL)


def _compares(number: Decimal, operator: str, bound: Decimal) -> bool:
    return {
        "gt": number > bound,
        "gte": number >= bound,
        "lt": number < bound,
        "lte": number <= bound,
    }[operator]
