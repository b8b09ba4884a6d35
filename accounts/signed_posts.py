"""Sending signed messages to addresses that customers named (standardwebhooks.com): HTTPS to the public internet only.

A customer must not be able to make us call what only we can reach: names are resolved here, private addresses refused,
and the connection goes to the address that was looked at. Redirects are not followed.
"""

import base64
import hashlib
import hmac
import http.client
import ipaddress
import socket
import ssl
from datetime import datetime
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings

from accounts.credentials import WEBHOOK_SECRET
from accounts.errors import DomainError

TIMEOUT_SECONDS = 10


class WebhookAddressRefused(DomainError):
    code = "webhook_address_refused"
    status = 422
    sentence = "Give an https:// address on the public internet."


class WebhookFailed(Exception):
    """The other side could not be reached, or did not answer with success. Worth another try."""


def signature(secret: str, message_id: str, stamp: int, body: bytes) -> str:
    """The value of the header `webhook-signature`."""
    key = base64.b64decode(secret.removeprefix(WEBHOOK_SECRET))
    signed = b".".join((message_id.encode(), str(stamp).encode(), body))
    return "v1," + base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()


def require_public(url: str) -> None:
    """Raises WebhookAddressRefused for what is not HTTPS or does not lie on the public internet."""
    _target(url)


def post_signed(url: str, secret: str, *, message_id: str, body: bytes, now: datetime) -> None:
    """Raises WebhookFailed, or WebhookAddressRefused where the address became one that we do not call."""
    parts, address = urlsplit(url), _target(url)
    stamp = int(now.timestamp())
    headers = {
        "Content-Type": "application/json",
        "User-Agent": "Kilotoken-Webhooks/1",
        "webhook-id": message_id,
        "webhook-timestamp": str(stamp),
        "webhook-signature": signature(secret, message_id, stamp, body),
    }
    connection = _connection(parts.scheme, parts.hostname or "", address, parts.port)
    try:
        connection.request("POST", (parts.path or "/") + (f"?{parts.query}" if parts.query else ""), body, headers)
        status = connection.getresponse().status
    except (OSError, http.client.HTTPException) as error:
        raise WebhookFailed(str(error) or type(error).__name__) from error
    finally:
        connection.close()
    if not 200 <= status < 300:
        raise WebhookFailed(f"The other side answered {status}.")


def _target(url: str) -> str:
    """The IP address to connect to."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise WebhookAddressRefused from error
    allowed = {"https"} if not settings.WEBHOOKS_TO_PRIVATE_ADDRESSES else {"https", "http"}
    if parts.scheme not in allowed or not parts.hostname or parts.username:
        raise WebhookAddressRefused
    try:
        found = socket.getaddrinfo(parts.hostname, port or 443, type=socket.SOCK_STREAM)
    except OSError as error:
        raise WebhookAddressRefused(f"The name {parts.hostname} leads nowhere.") from error
    addresses = [str(entry[4][0]) for entry in found]
    if not settings.WEBHOOKS_TO_PRIVATE_ADDRESSES and not all(ipaddress.ip_address(one).is_global for one in addresses):
        raise WebhookAddressRefused
    return addresses[0]


def _connection(scheme: str, host: str, address: str, port: int | None) -> http.client.HTTPConnection:
    if scheme == "http":
        return http.client.HTTPConnection(address, port, timeout=TIMEOUT_SECONDS)
    return _PinnedHTTPS(host, address, port)


class _PinnedHTTPS(http.client.HTTPSConnection):
    """Speaks to the host by name, over a connection to the address that was looked at."""

    def __init__(self, host: str, address: str, port: int | None) -> None:
        context = ssl.create_default_context()
        super().__init__(host, port, timeout=TIMEOUT_SECONDS, context=context)
        self._pinned = (address, context)

    def connect(self) -> Any:
        address, context = self._pinned
        plain = socket.create_connection((address, self.port), TIMEOUT_SECONDS)
        self.sock = context.wrap_socket(plain, server_hostname=self.host)
