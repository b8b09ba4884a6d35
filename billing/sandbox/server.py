"""The sandbox as an HTTP server on loopback: it reads requests, lets faults befall them and hands them on.

It answers on 127.0.0.1 only, and only when it is addressed as such, so that no other site's page can reach it by a
name of its own.
"""

import json
import threading
import time
import urllib.parse
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from billing.sandbox import pages
from billing.sandbox.account import Account, Call, Options
from billing.sandbox.control import NoSuchControl, post_control, read_control
from billing.sandbox.document import Document, Thing, load_document
from billing.sandbox.errors import StripeError
from billing.sandbox.passing_time import do_what_is_due
from billing.sandbox.reception import answer
from billing.sandbox.webhooks import Endpoint

LOOPBACK_NAMES = ("127.0.0.1", "localhost")
LARGEST_BODY = 4 * 1024 * 1024


class Sandbox:
    """A running sandbox. Starts with the object, ends with `stop` or the end of a `with` block.

    `webhook` is (address, secret); `tick` the seconds between two looks at what Stripe would do by itself, None for
    only when the clock is moved by the control endpoint.
    """

    def __init__(
        self,
        *,
        port: int = 0,
        webhook: tuple[str, str] | None = None,
        state: Path | None = None,
        document: Document | None = None,
        options: Options | None = None,
        tick: float | None = None,
    ) -> None:
        self._server = _Server(("127.0.0.1", port), _Handler)
        self.port = self._server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.account = Account(document or load_document(), options or Options(), base=self.url, state=state)
        self._server.account = self.account
        if webhook:
            self.account.listen(Endpoint(*webhook), catch_up=True)
        self._stopping = threading.Event()
        self._start(self._server.serve_forever, 0.05)
        if tick:
            self._start(self._tick, tick)

    def _start(self, target: Any, *arguments: Any) -> None:
        threading.Thread(target=target, args=arguments, daemon=True, name="stripe sandbox").start()

    def _tick(self, seconds: float) -> None:
        while not self._stopping.wait(seconds):
            do_what_is_due(self.account)

    def get_control(self, name: str, **query: str) -> Any:
        """What GET /_control/<name> answers: journal, objects or summary."""
        return json.loads(json.dumps(read_control(self.account, name, query)))

    def post_control(self, name: str, **given: Any) -> Thing:
        """Do what POST /_control/<name> does: faults, clock, webhooks, deliver, pay or reset."""
        return post_control(self.account, name, given)

    def stop(self) -> None:
        self._stopping.set()
        self.account.courier.stop()
        self._server.shutdown()
        self._server.server_close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64
    account: Account


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = 1 << 16  # one packet for head and body: 2 ms an answer instead of 49
    disable_nagle_algorithm = True
    server: _Server

    def log_message(self, format: str, *args: Any) -> None:
        """The journal says what happened."""

    def do_GET(self) -> None:
        self._receive()

    def do_POST(self) -> None:
        self._receive()

    def do_DELETE(self) -> None:
        self._receive()

    def _receive(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        if length > LARGEST_BODY:
            self.close_connection = True
            return self._reply_json(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, {"error": "body too large"})
        body = self.rfile.read(length).decode(errors="replace")
        host = self.headers.get("Host", "")
        if urllib.parse.urlsplit(f"//{host}").hostname not in LOOPBACK_NAMES:
            return self._reply_json(HTTPStatus.MISDIRECTED_REQUEST, {"error": "the sandbox answers on loopback only"})
        url = urllib.parse.urlsplit(self.path)
        if url.path.startswith("/_control/"):
            return self._control(url, body)
        if url.path.startswith(("/v1/", "/v2/")):
            return self._call(url, body)
        return self._page(url.path, body)

    def _call(self, url: urllib.parse.SplitResult, body: str) -> None:
        """One call of Stripe's API, with whatever faults wait for it."""
        account = self.server.account
        call = Call(self.command, url.path, {name.lower(): value for name, value in self.headers.items()})
        if account.fault(call, "lose-request"):
            return self._lose()
        broken = account.fault(call, "status")
        if broken:
            return self._reply_json(int(broken.kind), _injected(int(broken.kind)))
        text = body if self.command == "POST" else url.query
        status, result, headers = answer(account, call, urllib.parse.parse_qsl(text, keep_blank_values=True), body)
        slow = account.fault(call, "slow-answer")
        if slow:
            time.sleep(slow.seconds)
        if account.fault(call, "lose-answer"):
            return self._lose()
        return self._reply_json(status, result, {**headers, "Stripe-Version": call.version or account.document.version})

    def _control(self, url: urllib.parse.SplitResult, body: str) -> None:
        name, account = url.path.removeprefix("/_control/"), self.server.account
        try:
            if self.command == "GET":
                result = read_control(account, name, dict(urllib.parse.parse_qsl(url.query)))
            else:
                result = post_control(account, name, json.loads(body or "{}"))
        except NoSuchControl:
            return self._reply_json(HTTPStatus.NOT_FOUND, {"error": f"no control called {name}"})
        except StripeError as error:
            return self._reply_json(error.status, error.body)
        except (ValueError, TypeError, KeyError) as error:
            return self._reply_json(HTTPStatus.BAD_REQUEST, {"error": f"{type(error).__name__}: {error}"})
        return self._reply_json(HTTPStatus.OK, result)

    def _page(self, path: str, body: str) -> None:
        if path == "/sandbox.css":
            page = pages.stylesheet()
        elif path == "/favicon.ico":
            page = pages.Page(status=HTTPStatus.NO_CONTENT)
        else:
            form = dict(urllib.parse.parse_qsl(body)) if self.command == "POST" else None
            page = pages.show(self.server.account, path, form)
        self._reply(page.status, page.body, page.headers)

    def _reply_json(self, status: int, result: Any, headers: dict[str, str] | None = None) -> None:
        self._reply(status, json.dumps(result).encode(), {"Content-Type": "application/json", **(headers or {})})

    def _reply(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def _lose(self) -> None:
        """Break off without a word, as a network does."""
        self.close_connection = True
        self.connection.close()


def _injected(status: int) -> Thing:
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        return {"error": {"type": "invalid_request_error", "code": "rate_limit", "message": "injected fault"}}
    return {"error": {"type": "api_error", "message": "injected fault"}}
