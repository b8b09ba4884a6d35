"""Candidate events as every format delivers them, before anything is looked up or decided.

A format turns bytes into drafts and refusals; `metering.intake` turns those into rows and verdicts.
"""

from datetime import datetime
from typing import Any

import msgspec

from metering.models.events import RejectionReason

# An event reports usage, not content. What is refused is kept up to this length.
EVENT_MAX_BYTES = 64 * 1024


class Draft(msgspec.Struct, frozen=True, gc=False):
    """A well-formed event: its texts have 1 to 255 characters and no NUL, and its data can be stored as jsonb."""

    source: str
    event_id: str
    type: str
    # key_…, the 64 hexadecimal digits of an API key's SHA-256, or org_….
    subject: str
    # Aware; None: the sender gave none, and the time of receipt stands in.
    time: datetime | None
    # The JSON object of `data`, as it goes into the table.
    raw_data: bytes
    # The same decoded, fractions as Decimal.
    data: dict[str, Any]
    # The whole event as it arrived, or a view of it (see `body_of`); empty: written anew from the fields.
    body: bytes | msgspec.Raw = b""


class Refusal(msgspec.Struct, frozen=True, gc=False):
    """Something that arrived in the place of an event and cannot be one."""

    reason: RejectionReason
    # A sentence that says what to do.
    detail: str
    body: bytes
    # As far as they could be read.
    source: str = ""
    event_id: str = ""


_encode = msgspec.json.Encoder(decimal_format="number").encode


def make_draft(
    *, source: str, event_id: str, type: str, subject: str, time: datetime | None, data: dict[str, Any]
) -> Draft:
    """A draft from Python values, for ways in that do not start from JSON. Decimals stay exact."""
    return Draft(source, event_id, type, subject, time, _encode(data), data)


def body_of(draft: Draft) -> bytes:
    """The event as it arrived, or as JSON if it did not arrive as bytes."""
    if draft.body:
        return bytes(draft.body)
    members: dict[str, Any] = {"specversion": "1.0", "id": draft.event_id, "source": draft.source, "type": draft.type}
    members |= {"subject": draft.subject, "data": draft.data}
    if draft.time is not None:
        members["time"] = draft.time
    return _encode(members)
