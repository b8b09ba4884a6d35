"""What a file of events holds, in figures that the file and the table arrive at by themselves."""

import hashlib
from dataclasses import dataclass

from django.db import connection

# 60 bits of each line's MD5, added up: the same for the same lines in any order.
_SUMMED = "SELECT count(*), coalesce(sum(('x' || left(md5(line), 15))::bit(60)::bigint), 0) FROM ({lines}) AS lines"


@dataclass(frozen=True, slots=True)
class Content:
    """Number of events, and the sum over their lines; of a file also its digest, SHA-256 in hexadecimal."""

    events: int
    summed: int
    digest: str = ""

    def is_same(self, other: "Content") -> bool:
        return (self.events, self.summed) == (other.events, other.summed)


def summand(line: bytes) -> int:
    """What a line adds to the sum."""
    return int(hashlib.md5(line, usedforsecurity=False).hexdigest()[:15], 16)


def summed_by_postgresql(lines: str) -> Content:
    """The content of a statement's lines, computed where they are."""
    with connection.cursor() as cursor:
        cursor.execute(_SUMMED.format(lines=lines))
        events, summed = cursor.fetchone()
    return Content(events, int(summed))
