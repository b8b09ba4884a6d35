"""Members of an event's data in SQL: paths, numbers, texts, conditions, tiers. Says what `metering.members` says.

Every expression reads a column `data` (jsonb) and takes names and values as parameters only.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from metering.members import COMPARING, EQUAL, PRESENCE, Condition, Tiers

# A string that counts as a number; intake accepts no other. What a meter defined later finds unreadable, it ignores.
DECIMAL_STRING = r"^-?[0-9]{1,60}([.][0-9]{1,60})?([eE][+-]?[0-9]{1,3})?$"

NUMBER = """
CASE jsonb_typeof({member})
    WHEN 'number' THEN ({member})::numeric
    WHEN 'string' THEN CASE WHEN {member} #>> '{{}}' ~ %s THEN ({member} #>> '{{}}')::numeric END
END"""
TEXT = """
CASE jsonb_typeof({member})
    WHEN 'string' THEN {member} #>> '{{}}'
    WHEN 'number' THEN trim_scale(({member})::numeric)::text
    WHEN 'boolean' THEN {member} #>> '{{}}'
END"""
# 128 bits that tell values apart.
DIGEST = "substr(encode(sha256(convert_to({text}, 'UTF8')), 'hex'), 1, 32)::uuid"
# As many labels as steps; of the rising bounds, those that are less than the size say which. Each size is read once.
TIER = """
CASE WHEN coalesce({sizes}) IS NOT NULL
    THEN (%s::text[])[%s::int - width_bucket(-({total}), %s::numeric[])] END"""
COMPARISONS = {"gt": ">", "gte": ">=", "lt": "<", "lte": "<="}


@dataclass(frozen=True, slots=True)
class Sql:
    """Text with %s places and what goes into them."""

    text: str
    params: tuple[Any, ...] = ()


def joined(parts: Sequence[Sql], separator: str, *, before: str = "") -> Sql:
    """The parts in one; each after `before`."""
    text = separator.join(before + part.text for part in parts)
    return Sql(text, sum((part.params for part in parts), ()))


def member(path: str) -> Sql:
    """The member as jsonb: the one of this name, else the one that the path's dots lead to through objects."""
    if "." not in path:
        return Sql("(data -> %s::text)", (path,))
    names = path.split(".")
    steps = " -> ".join(["%s::text"] * len(names))
    return Sql(f"coalesce(data -> %s::text, data -> {steps})", (path, *names))


def number(path: str) -> Sql:
    """The number that the member holds, exact; null if it is none."""
    return number_in(member(path))


def number_in(found: Sql) -> Sql:
    """The number that this member holds."""
    return Sql(NUMBER.format(member=found.text), (*found.params * 3, DECIMAL_STRING, *found.params))


def scalar_text(path: str) -> Sql:
    """The member as text, a number in its shortest form; null for anything but texts, numbers, true and false."""
    found = member(path)
    return Sql(TEXT.format(member=found.text), found.params * 4)


def digest(path: str) -> Sql:
    """What a number of different values tells apart."""
    found = scalar_text(path)
    return Sql(DIGEST.format(text=found.text), found.params)


def dimension(name: str, tiers: Tiers | None) -> Sql:
    """The member as text, null where it is absent or null; or the label of the event's size."""
    if tiers is not None:
        return _tier(tiers)
    if "." not in name:
        return Sql("data ->> %s::text", (name,))
    found = member(name)
    return Sql(f"{found.text} #>> '{{}}'", found.params)


def condition(one: Condition) -> Sql:
    """Whether the condition holds: never null."""
    if one.operator in PRESENCE:
        found = member(one.field)
        word = "<>" if one.operator == "exists" else "="
        return Sql(f"coalesce(jsonb_typeof({found.text}), 'null') {word} 'null'", found.params)
    if one.operator in COMPARING:
        found = number(one.field)
        return Sql(
            f"coalesce({found.text} {COMPARISONS[one.operator]} %s::numeric, false)", (*found.params, *one.values)
        )
    found = scalar_text(one.field)
    word = "" if one.operator in EQUAL else "NOT "
    return Sql(f"{word}coalesce({found.text} = ANY(%s::text[]), false)", (*found.params, list(one.values)))


def conditions(every: Sequence[Condition]) -> Sql:
    """Whether all hold; there must be one at least."""
    return joined([condition(one) for one in every], " AND ")


def _tier(tiers: Tiers) -> Sql:
    """A missing field adds nothing; where all are missing, the size is unknown."""
    sizes = [number(path) for path in tiers.fields]
    read = sum((size.params for size in sizes), ())
    falling = [-largest for largest, _ in reversed(tiers.steps) if largest is not None]
    text = TIER.format(
        sizes=", ".join(size.text for size in sizes),
        total=" + ".join(f"coalesce({size.text}, 0)" for size in sizes),
    )
    return Sql(text, (*read, [label for _, label in tiers.steps], len(tiers.steps), *read, falling))
