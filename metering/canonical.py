"""The exact bytes that seals are made of. Their definition can never change, only gain a new version beside it.

An event's leaf is UTF-8 JSON without spaces: an array of the text "kilotoken.event.1", source, id, type, subject,
time, time_assumed and data. Time is UTC with six decimals and Z. Members of objects are sorted by code point. In texts
only ", \\ and the characters below U+0020 are escaped, as \\b \\t \\n \\f \\r or else \\u00xx. A number is its
shortest decimal: no exponent, no plus, no zeros that say nothing, no minus before zero; so 1.50, 15e-1 and 1.5 are one
number, however it was sent and however a database or a language would print it. `metering/verifier.py` computes the
same a second time and shares no code with this; tests compare the two. Imports nothing of ours.
"""

import json
from datetime import UTC, date, datetime
from decimal import Decimal
from hashlib import sha256
from typing import Any

import msgspec

EVENT_VERSION = "kilotoken.event.1"
SEAL_VERSION = "kilotoken seal 1"
# What the first seal of an organisation names as the digest before it.
NO_PREVIOUS = "0" * 64


def shortest_number(text: str) -> str:
    """1.50 -> 1.5, 1e3 -> 1000, -0.0 -> 0. Never rounds."""
    number = Decimal(text)
    if not number:
        return "0"
    plain = format(number, "f")
    return plain.rstrip("0").rstrip(".") if "." in plain else plain


def event_leaf(
    source: str, event_id: str, type: str, subject: str, time: datetime, time_assumed: bool, data: str | bytes
) -> bytes:
    """The leaf's content for an event; `data` is its JSON in any spelling."""
    head = _encode([EVENT_VERSION, source, event_id, type, subject, instant(time), time_assumed])
    return b"%b,%b]" % (head[:-1], _canonical(data))


def seal_digest(organisation_id: str, day: date, event_count: int, root: str, previous_digest: str) -> str:
    """SHA-256 over six lines, each ended by a line feed: version, organisation, day, count, root, digest before it."""
    lines = (SEAL_VERSION, organisation_id, day.isoformat(), str(event_count), root, previous_digest)
    return sha256("".join(f"{line}\n" for line in lines).encode()).hexdigest()


def instant(moment: datetime) -> str:
    """2026-11-15T12:00:00.000000Z"""
    return moment.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def _number(text: str) -> msgspec.Raw:
    return msgspec.Raw(shortest_number(text).encode())


_decode = msgspec.json.Decoder(dict[str, Any], float_hook=_number).decode
_encode = msgspec.json.Encoder(order="sorted").encode


def _canonical(data: str | bytes) -> bytes:
    try:
        return _encode(_decode(data))
    except msgspec.ValidationError:
        # A whole number of more than 4,300 digits, which a way in other than JSON may bring.
        return _encode(json.loads(data, parse_int=_number, parse_float=_number))
