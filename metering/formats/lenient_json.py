"""JSON as programs really write it: with NaN, half surrogates and endless numbers. Imports nothing of ours.

What is no finite number of a sensible size becomes null; fractions are exact.
"""

from decimal import Decimal, InvalidOperation
from json import JSONDecoder
from typing import Any

import msgspec


def exact(digits: str) -> Decimal | None:
    """A fraction with every digit; None for exponents beyond all use."""
    try:
        return Decimal(digits)
    except InvalidOperation:
        return None


# More digits than any count has are cut: it stays absurd, and costs nothing.
DECODER = JSONDecoder(parse_float=exact, parse_int=lambda digits: int(digits[:60]), parse_constant=lambda _: None)
_decode_strictly = msgspec.json.Decoder(float_hook=exact).decode


def decode(raw: bytes) -> Any:
    """Whatever the bytes hold; ValueError if they are not JSON by any reading."""
    try:
        return _decode_strictly(raw)
    except (ValueError, RecursionError):
        pass
    try:
        return DECODER.decode(raw.decode("utf-8", "replace"))
    except RecursionError as error:
        raise ValueError("It is nested too deeply.") from error
