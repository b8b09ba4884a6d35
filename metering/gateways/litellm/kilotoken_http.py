"""Kilotoken's API over kept-open connections. Standard library only.

`ask` is for a call that somebody waits for: one short try, and once the other side was found missing twice in a row,
nobody waits for it again for half a second. `post_patiently` is for the spool.
"""

import http.client
import json
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from kilotoken_spool import NotTaken

PAUSE = 0.5
PATIENCE = 30.0
KEPT_OPEN = 64


class Unreachable(Exception):
    """No answer, or one that is none: a fault on the way or of the server."""


@dataclass(frozen=True)
class Answer:
    status: int
    # Names in lower case.
    headers: Mapping[str, str]
    body: dict[str, Any]


class Api:
    def __init__(self, url: str, token: str, timeout: float) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"KILOTOKEN_URL {url!r} is no http(s) address.")
        self._connection = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        self._host, self._port, self._path = parts.hostname, parts.port, parts.path.rstrip("/")
        self._headers = {"Authorization": f"Bearer {token}", "Accept": "application/json"}
        self._timeout = timeout
        self._idle: list[http.client.HTTPConnection] = []
        self._lock = threading.Lock()
        # Tries in a row that found nobody.
        self._misses = 0
        self._missing_until = 0.0

    def ask(self, method: str, path: str, body: Any = None, *, headers: Mapping[str, str] | None = None) -> Answer:
        """Unreachable if there is no answer in time, or none at all worth the name (5xx, 429)."""
        if time.monotonic() < self._missing_until:
            raise Unreachable("it was missing a moment ago")
        try:
            answer = self._exchange(method, path, body, headers or {}, self._timeout)
        except Unreachable:
            self._misses += 1
            if self._misses > 1:
                self._missing_until = time.monotonic() + PAUSE
            raise
        self._misses = 0
        # A limit on requests to Kilotoken itself would come as a problem; a refused call comes with its decision.
        if answer.status >= 500 or (answer.status == 429 and "decision" not in answer.body):
            raise Unreachable(f"status {answer.status}")
        return answer

    def post_patiently(self, path: str, body: Any, content_type: str = "application/json") -> Answer:
        """NotTaken where it should be tried again."""
        try:
            answer = self._exchange("POST", path, body, {"Content-Type": content_type}, PATIENCE)
        except Unreachable as error:
            raise NotTaken(str(error)) from error
        if answer.status >= 500 or answer.status in (408, 429):
            raise NotTaken(f"status {answer.status}")
        self._misses, self._missing_until = 0, 0.0
        return answer

    def _exchange(self, method: str, path: str, body: Any, headers: Mapping[str, str], timeout: float) -> Answer:
        content = None if body is None else json.dumps(body).encode()
        sent = self._headers | {"Content-Type": "application/json"} | dict(headers)
        with self._some_connection(timeout) as connection:
            try:
                return _ask(connection, method, self._path + path, content, sent)
            except TimeoutError:
                raise
            except (http.client.RemoteDisconnected, ConnectionError):
                # Closed by the other side while it lay idle, as a restart does. Every request may be repeated.
                connection.close()
                return _ask(connection, method, self._path + path, content, sent)

    @contextmanager
    def _some_connection(self, timeout: float) -> Iterator[http.client.HTTPConnection]:
        with self._lock:
            connection = self._idle.pop() if self._idle else None
        connection = connection or self._connection(self._host, self._port)
        connection.timeout = timeout
        if connection.sock is not None:
            connection.sock.settimeout(timeout)
        try:
            yield connection
        except (OSError, http.client.HTTPException, ValueError) as error:
            connection.close()
            raise Unreachable(f"{type(error).__name__}: {error}") from error
        with self._lock:
            if len(self._idle) < KEPT_OPEN:
                self._idle.append(connection)
                return
        connection.close()


def _ask(
    connection: http.client.HTTPConnection, method: str, path: str, content: bytes | None, headers: Mapping[str, str]
) -> Answer:
    connection.request(method, path, content, dict(headers))
    response = connection.getresponse()
    raw = response.read()
    try:
        body = json.loads(raw) if raw else {}
    except ValueError:
        body = {}  # an error page of something in between
    return Answer(
        response.status,
        {name.lower(): value for name, value in response.getheaders()},
        body if isinstance(body, dict) else {"answers": body},
    )
