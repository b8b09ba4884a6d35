"""What makes two events the same one: organisation, source and event id, never a timestamp.

The digest is stored as the event's key, so its definition can never change. Imports nothing of ours.
"""

from hashlib import sha256
from struct import Struct

_LENGTH = Struct(">I").pack
_ORGANISATION = Struct(">q").pack
KEY_BYTES = 16


def event_key(source: str, event_id: str) -> bytes:
    """The first 128 bits of SHA-256 over source and id in UTF-8, each after its length as four bytes, big-endian."""
    source_bytes, id_bytes = source.encode(), event_id.encode()
    named = b"".join((_LENGTH(len(source_bytes)), source_bytes, _LENGTH(len(id_bytes)), id_bytes))
    return sha256(named).digest()[:KEY_BYTES]


def identity(organisation_id: int, key: bytes) -> bytes:
    """Organisation and key as 24 bytes that sort like the unique index of a month's events."""
    return _ORGANISATION(organisation_id) + key
