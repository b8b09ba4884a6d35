"""JSON objects with exact numbers, and what of JSON the event table cannot hold. Imports nothing of ours."""

from decimal import Decimal, InvalidOperation
from typing import Any

import msgspec

# Deeper structures than this are no event data and would exhaust whoever walks them.
DEEPEST = 64
# 1e131000 takes eight bytes to send and sixty thousand to store.
LARGEST_EXPONENT = 1000


def _exact_number(text: str) -> Decimal:
    try:
        number = Decimal(text)
    except InvalidOperation as error:
        raise ValueError(f"the exponent of {text[:40]} is out of range") from error
    if abs(number.adjusted()) > LARGEST_EXPONENT:
        raise ValueError(f"the number {text[:40]} is out of range")
    return number


_decode = msgspec.json.Decoder(dict[str, Any], float_hook=_exact_number).decode


class NotStorable(ValueError):
    """The text says what is wrong, to stand after "data"."""


def decode_object(raw: bytes | str) -> dict[str, Any]:
    """A JSON object, whole numbers as int and fractions as Decimal; NotStorable if it is none or cannot be stored."""
    try:
        decoded = _decode(raw)
    except msgspec.ValidationError as error:
        raise NotStorable(f"must be a JSON object with numbers of sensible size ({error})") from error
    except RecursionError as error:
        raise NotStorable(f"is nested deeper than {DEEPEST} levels") from error
    except ValueError as error:
        raise NotStorable(f"is not valid JSON ({error})") from error
    return decoded


def check_storable(raw: bytes, decoded: dict[str, Any]) -> None:
    """Raise NotStorable for what jsonb or a walk over it would refuse; costs next to nothing for common data."""
    # To find is quicker than `in`, which tries to read what it looks for as a number first.
    is_flat = raw.find(b"{", 1) < 0 and raw.find(b"[") < 0
    if raw.find(b"\\u0000") >= 0 or not (is_flat or raw.count(b"{") + raw.count(b"[") <= DEEPEST):
        _walk(decoded)


def _walk(decoded: dict[str, Any]) -> None:
    level: list[Any] = [decoded]
    for _ in range(DEEPEST):
        below: list[Any] = []
        for value in level:
            if isinstance(value, dict):
                below += value.keys()
                below += value.values()
            elif isinstance(value, list):
                below += value
            elif isinstance(value, str) and "\x00" in value:
                raise NotStorable("holds the character NUL (\\u0000), which cannot be stored: leave it out")
        if not below:
            return
        level = below
    raise NotStorable(f"is nested deeper than {DEEPEST} levels")


def same(one: Any, other: Any) -> bool:
    """Equality of JSON as jsonb sees it: 1 equals 1.0, and true does not equal 1."""
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same(value, other[name]) for name, value in one.items())
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other)
