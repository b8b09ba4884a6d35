"""Telling an application what happened: signing events as Stripe does, holding, repeating and delivering them.

Deliveries run in the background, one at a time, in order, and are tried again with growing waits, so that an
application that restarts meanwhile still gets them. Signatures carry the real time, whatever the account's clock says,
since receivers compare them with their own.
"""

import hashlib
import heapq
import hmac
import http.client
import itertools
import json
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

# Seconds before each further try of a delivery that failed: about twenty minutes in all.
WAITS = (1, 2, 4, 8, 15, 30, 60, 120, 300, 600)
TIMEOUT = 20
MOST_AT_ONCE = 50


class _Unfollowed(urllib.request.HTTPRedirectHandler):
    """To Stripe a redirect is a failed delivery."""

    def redirect_request(self, *args: Any) -> None:
        return None


# Straight to the address, whatever proxies the environment names.
_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}), _Unfollowed)


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where events go. `api_version` None: the version of the document."""

    url: str
    secret: str
    events: tuple[str, ...] = ("*",)
    hold: bool = False
    api_version: str | None = None

    def wants(self, type: str) -> bool:
        return "*" in self.events or type in self.events


def signature(body: bytes, secret: str, stamp: int) -> str:
    """The Stripe-Signature header of a body."""
    mark = hmac.new(secret.encode(), f"{stamp}.".encode() + body, hashlib.sha256).hexdigest()
    return f"t={stamp},v1={mark}"


def deliver_once(endpoint: Endpoint, event: dict[str, Any]) -> int | str:
    """Send an event; the HTTP status that came back, or what went wrong instead."""
    body = json.dumps({**event, "api_version": endpoint.api_version or event["api_version"]}).encode()
    headers = {
        "Content-Type": "application/json; charset=utf-8",
        "User-Agent": "Stripe/1.0 (sandbox)",
        "Stripe-Signature": signature(body, endpoint.secret, int(time.time())),
    }
    request = urllib.request.Request(endpoint.url, body, headers)  # noqa: S310 - the operator's own address
    try:
        with _OPENER.open(request, timeout=TIMEOUT) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code
    except (OSError, http.client.HTTPException) as error:
        return str(error) or type(error).__name__


class Courier:
    """The background deliveries of one account. `report` hears of every try: endpoint, event, result."""

    def __init__(self, report: Callable[[Endpoint, dict[str, Any], int | str], None], waits: tuple[float, ...]) -> None:
        self._report, self._waits = report, waits
        self._order = itertools.count()
        self._queue: list[tuple[float, int, int, Endpoint, dict[str, Any]]] = []
        self._wake = threading.Condition()
        self._thread: threading.Thread | None = None
        self._stopped = False

    def post(self, endpoint: Endpoint, event: dict[str, Any]) -> None:
        """Queue a delivery; returns at once."""
        self._queue_up(0, 0, endpoint, event)

    def stop(self) -> None:
        with self._wake:
            self._stopped = True
            self._queue.clear()
            self._wake.notify_all()

    def forget(self) -> None:
        """Drop whatever has not been delivered."""
        with self._wake:
            self._queue.clear()

    def send_now(self, deliveries: list[tuple[Endpoint, dict[str, Any]]], *, together: bool) -> None:
        """Send and wait for the answers; `together` sends all at the same moment, as redeliveries may arrive."""
        size = MOST_AT_ONCE if together else 1
        for batch in itertools.batched(deliveries, size):
            threads = [threading.Thread(target=self._try, args=delivery, daemon=True) for delivery in batch]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(TIMEOUT)

    def _queue_up(self, wait: float, tries: int, endpoint: Endpoint, event: dict[str, Any]) -> None:
        with self._wake:
            if self._stopped:
                return
            heapq.heappush(self._queue, (time.monotonic() + wait, next(self._order), tries, endpoint, event))
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="webhooks", daemon=True)
                self._thread.start()
            self._wake.notify()

    def _run(self) -> None:
        while (due := self._next()) is not None:
            tries, endpoint, event = due
            if not self._try(endpoint, event) and tries < len(self._waits):
                self._queue_up(self._waits[tries], tries + 1, endpoint, event)

    def _next(self) -> tuple[int, Endpoint, dict[str, Any]] | None:
        with self._wake:
            while not self._stopped:
                wait = self._queue[0][0] - time.monotonic() if self._queue else None
                if wait is not None and wait <= 0:
                    return heapq.heappop(self._queue)[2:]
                self._wake.wait(wait)
            return None

    def _try(self, endpoint: Endpoint, event: dict[str, Any]) -> bool:
        result = deliver_once(endpoint, event)
        self._report(endpoint, event, result)
        return isinstance(result, int) and 200 <= result < 300
