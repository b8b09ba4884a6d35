"""How often a place may try what needs no account. Signing in, up and resetting are counted by allauth in its own way.

Counted by address (IPv6: by /64) in fixed windows, with one statement that no two processes can confuse. Only failures
and public acts cost anything: nothing here stands before a valid token.
"""

import ipaddress
from dataclasses import dataclass
from datetime import datetime, timedelta

from allauth.account.adapter import get_adapter
from django.core.exceptions import PermissionDenied
from django.db import connection
from django.http import HttpRequest

from accounts.models import Attempts

COUNT = f"""
INSERT INTO {Attempts._meta.db_table} AS attempts (key, count, ends_at) VALUES (%s, 1, %s)
ON CONFLICT (key) DO UPDATE SET count = attempts.count + 1 RETURNING count
"""  # noqa: S608


@dataclass(frozen=True, slots=True)
class Limit:
    """So many attempts in so many seconds."""

    name: str
    amount: int
    seconds: int


UNKNOWN_TOKEN = Limit("unknown-token", 300, 60)
UNKNOWN_INVITATION = Limit("unknown-invitation", 30, 60)
LEAKED_KEYS = Limit("leaked-keys", 60, 60)


def is_within(limit: Limit, request: HttpRequest, now: datetime) -> bool:
    """Count one more attempt; whether it is still within the limit."""
    key = f"{limit.name} {_place(request)} {int(now.timestamp()) // limit.seconds}"
    with connection.cursor() as cursor:
        cursor.execute(COUNT, [key, now + timedelta(seconds=limit.seconds)])
        return bool(cursor.fetchone()[0] <= limit.amount)


def wait_of(limit: Limit, now: datetime) -> int:
    """Seconds until attempts count anew, at least one."""
    return limit.seconds - int(now.timestamp()) % limit.seconds


def forget_attempts(now: datetime) -> int:
    """Remove what counts no longer; returns how many rows."""
    return Attempts.objects.filter(ends_at__lt=now).delete()[0]


def _place(request: HttpRequest) -> str:
    try:
        found = ipaddress.ip_address(get_adapter().get_client_ip(request))
    except (PermissionDenied, ValueError):
        return "unknown"
    return str(ipaddress.ip_network(f"{found}/64", strict=False)) if found.version == 6 else str(found)
