"""What was refused, kept whole with its reason, so that nothing that was sent is lost. The same refusal again only
counts up.

Secret keys that a sender put into an event by mistake are blotted out before anything is stored.
"""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from django.db.backends.utils import CursorWrapper

from metering.drafts import EVENT_MAX_BYTES
from metering.event_store import Origin
from metering.models.events import RejectedEvent, RejectionReason

TEXT_LIMIT = 1024
_SECRET = re.compile(r"(sk|kt-service|kt-access)-[A-Za-z0-9_-]{16,}")


@dataclass(frozen=True, slots=True)
class Rejection:
    """One event that is not accepted."""

    position: int
    # None: it could not be attributed.
    organisation_id: int | None
    reason: RejectionReason
    detail: str
    source: str
    event_id: str
    body: bytes

    @property
    def text(self) -> str:
        """The body as PostgreSQL can hold it."""
        return storable(self.body[:EVENT_MAX_BYTES].decode(errors="replace"))

    @property
    def digest(self) -> str:
        """The same for the same organisation, reason and body."""
        whole = f"{self.organisation_id or ''}\n{self.reason}\n".encode() + self.body
        return sha256(whole).hexdigest()


_KEEP = """
INSERT INTO rejected_event (organisation_id, reason, detail, source, event_id, body, digest, seen_count, format,
    service_token_id, first_seen_at, last_seen_at, state)
VALUES {rows}
ON CONFLICT (digest) DO UPDATE SET
    seen_count = rejected_event.seen_count + EXCLUDED.seen_count, last_seen_at = EXCLUDED.last_seen_at
"""
_ROW = "(%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)"


def keep_rejections(cursor: CursorWrapper, rejections: Sequence[Rejection], origin: Origin) -> None:
    """Store them, in the order of their digests so that rivals never wait for each other in a circle."""
    counts = Counter(rejection.digest for rejection in rejections)
    by_digest = {rejection.digest: rejection for rejection in rejections}
    values: list[Any] = []
    for digest in sorted(by_digest):
        values += _columns(by_digest[digest], digest, counts[digest], origin)
    cursor.execute(_KEEP.format(rows=", ".join([_ROW] * len(by_digest))), values)


def _columns(rejection: Rejection, digest: str, count: int, origin: Origin) -> list[Any]:
    about = [rejection.organisation_id, str(rejection.reason), storable(rejection.detail)]
    names = [storable(rejection.source)[:TEXT_LIMIT], storable(rejection.event_id)[:TEXT_LIMIT]]
    arrival = [origin.format, origin.service_token_id, origin.received_at, origin.received_at]
    return [*about, *names, rejection.text, digest, count, *arrival, RejectedEvent.State.OPEN.value]


def storable(text: str) -> str:
    """A text without NUL and half surrogates, which PostgreSQL's text cannot hold, and without secrets."""
    whole = text.replace("\x00", "\ufffd").encode("utf-8", "replace").decode()
    return _SECRET.sub(r"\1-[removed]", whole)
