"""Repairs of refused events' bodies: set a member, or put one value in the place of another. Pure.

A member is named by its path: `data.model`, `subject`. Numbers keep every digit; what is no JSON object stays as it is.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from typing import Any

import msgspec

from accounts.errors import DomainError
from metering.exact_json import NotStorable, decode_object, same

DEEPEST_PATH = 8
_encode = msgspec.json.Encoder(decimal_format="number").encode


class InvalidRepair(DomainError):
    code = "invalid_repair"
    status = 422


class Whatever(Enum):
    """Stands for any value, also one that is not there."""

    IT_IS = "whatever"


@dataclass(frozen=True, slots=True)
class Repair:
    """Give the member at `path` this value, where it has `was`."""

    path: tuple[str, ...]
    value: Any
    was: Any = Whatever.IT_IS


def make_repair(path: str, value: Any, *, was: Any = Whatever.IT_IS) -> Repair:
    """Raises InvalidRepair for a path that names no member."""
    names = tuple(path.strip().split("."))
    if not all(names) or len(names) > DEEPEST_PATH:
        raise InvalidRepair(f"{path!r} names no member of an event. Write it like data.model or subject.")
    return Repair(names, value, was)


def value_from(text: str) -> Any:
    """The value that somebody wrote: JSON where it is some, numbers exact; else the text itself."""
    try:
        members = decode_object(f'{{"value":{text}}}')
    except NotStorable:
        return text
    return members["value"] if len(members) == 1 else text


def repaired(body: str, repairs: Iterable[Repair]) -> str | None:
    """The body after the repairs; None where they change nothing."""
    try:
        event = decode_object(body)
    except NotStorable:
        return None
    changes = [_apply(event, repair) for repair in repairs]
    return _encode(event).decode() if any(changes) else None


def _apply(event: dict[str, Any], repair: Repair) -> bool:
    *way, last = repair.path
    parent = event
    for name in way:
        # Setting a member makes the objects that lead to it; replacing a value needs them to be there.
        child = parent.setdefault(name, {}) if repair.was is Whatever.IT_IS else parent.get(name)
        if not isinstance(child, dict):
            return False
        parent = child
    missing = object()
    current = parent.get(last, missing)
    is_meant = repair.was is Whatever.IT_IS or (current is not missing and same(current, repair.was))
    if not is_meant or (current is not missing and same(current, repair.value)):
        return False
    parent[last] = repair.value
    return True
