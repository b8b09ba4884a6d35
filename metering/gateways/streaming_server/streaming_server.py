"""A streaming server in OpenAI's form that asks Kilotoken first: an example to read, run and take parts from.

    KILOTOKEN_URL=… KILOTOKEN_TOKEN=… KILOTOKEN_SPOOL=… python streaming_server.py 8080

Reserve, stream, extend when the answer grows longer than was reserved, report what was used: also when the caller goes
in the middle, and when the model breaks off. Standard library, and the modules beside the LiteLLM plugin. Put your own
model in the place of `echo`.
"""

import json
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from kilotoken_gateway import Admitted, Gateway, Refused, Settings, digest_of

# Takes the request, yields the answer token by token.
type Model = Callable[[Mapping[str, Any]], Iterator[str]]

# Reserved where the request sets no bound, and again each time that it is used up.
PORTION = 256
LONGEST_BODY = 1 << 20


def echo(request: Mapping[str, Any]) -> Iterator[str]:
    """A model of little wit: says again what it was told."""
    for word in prompt_of(request):
        yield word + " "


def prompt_of(request: Mapping[str, Any]) -> list[str]:
    """The prompt's tokens; here, its words."""
    texts = [message.get("content") or "" for message in request.get("messages", [])]
    return [word for text in texts if isinstance(text, str) for word in text.split()]


class Call:
    """One call, from its admission to its report."""

    def __init__(self, gateway: Gateway, key: str, request: Mapping[str, Any], address: str) -> None:
        self.id = f"chatcmpl-{uuid.uuid4().hex}"
        self.model = str(request.get("model") or "")
        self.prompt_tokens, self.output_tokens = len(prompt_of(request)), 0
        self.most = int(request.get("max_tokens") or 0)
        self._reserved = min(self.most or PORTION, PORTION)
        self._gateway = gateway
        self.admitted: Admitted = gateway.admit(
            digest_of(key),
            call_id=self.id,
            model=self.model,
            prompt_tokens=self.prompt_tokens,
            max_tokens=self._reserved,
            client_ip=address,
        )

    def may_go_on(self) -> bool:
        """Whether one more token may be made; asks for more room when what was reserved is used up."""
        if self.most and self.output_tokens >= self.most:
            return False
        if self.output_tokens < self._reserved:
            return True
        more = min(PORTION, self.most - self._reserved) if self.most else PORTION
        if not self._gateway.extend(self.admitted, {"output_tokens": more}):
            return False
        self._reserved += more
        return True

    def report(self) -> None:
        """What was used, exactly: who runs the model has counted. Nothing was, if it never began to answer."""
        if not self.output_tokens:
            self._gateway.release(self.admitted)
            return
        usage = {"input_tokens": self.prompt_tokens, "output_tokens": self.output_tokens}
        self._gateway.report(self._gateway.event(self.admitted, {"model": self.model} | usage, ended_at=time.time()))

    def chunk(self, text: str = "", *, finish_reason: str | None = None) -> dict[str, Any]:
        delta = {"content": text} if text else {}
        choice = {"index": 0, "delta": delta, "finish_reason": finish_reason}
        head = {"id": self.id, "object": "chat.completion.chunk", "created": int(time.time())}
        return head | {"model": self.model, "choices": [choice]}

    @property
    def usage(self) -> dict[str, int]:
        used = {"prompt_tokens": self.prompt_tokens, "completion_tokens": self.output_tokens}
        return used | {"total_tokens": self.prompt_tokens + self.output_tokens}


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, address: tuple[str, int], gateway: Gateway, model: Model = echo) -> None:
        super().__init__(address, Handler)
        self.gateway, self.model = gateway, model


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def do_POST(self) -> None:
        if self.path != "/v1/chat/completions":
            self._send(404, {"error": {"message": "There is nothing here.", "type": "not_found"}})
            return
        try:
            request = json.loads(self.rfile.read(min(int(self.headers.get("Content-Length") or 0), LONGEST_BODY)))
            most = int(request.get("max_tokens") or 0)
        except (ValueError, TypeError, AttributeError):
            most = -1
        if most < 0:
            self._send(400, {"error": {"message": "The body is no chat completion.", "type": "invalid_request_error"}})
            return
        key = self.headers.get("Authorization", "").removeprefix("Bearer ").strip()
        try:
            call = Call(self.server.gateway, key, request, self.client_address[0])
        except Refused as refused:
            error = {"message": refused.message, "type": refused.code, "code": refused.code, "param": None}
            self._send(refused.status, {"error": error}, refused.headers)
            return
        self._answer(call, request)

    def _answer(self, call: Call, request: Mapping[str, Any]) -> None:
        pieces: list[str] = []
        is_streamed = bool(request.get("stream"))
        try:
            if is_streamed:
                self._begin_stream(call)
            finish_reason = "stop"
            for token in self.server.model(request):
                if not call.may_go_on():
                    finish_reason = "length"
                    break
                call.output_tokens += 1
                if is_streamed:
                    self._send_event(call.chunk(token))
                pieces.append(token)
        except OSError:
            self.close_connection = True  # the caller has gone; what was made for them is reported below
            return
        except Exception as error:
            self.log_error("The model broke off: %r", error)
            self._say_broken(is_streamed=is_streamed)
            return
        finally:
            call.report()
        if is_streamed:
            self._end_stream(call, request, finish_reason)
        else:
            self._send(200, _completion(call, "".join(pieces), finish_reason), call.admitted.headers)

    # --- Writing ------------------------------------------------------------------------------------------------------

    def _begin_stream(self, call: Call) -> None:
        self.send_response(200)
        for name, value in {"Content-Type": "text/event-stream", "Cache-Control": "no-store"}.items():
            self.send_header(name, value)
        for name, value in call.admitted.headers.items():
            self.send_header(name, value)
        self.send_header("Connection", "close")
        self.end_headers()
        self.close_connection = True

    def _send_event(self, event: Mapping[str, Any]) -> None:
        self.wfile.write(b"data: " + json.dumps(event).encode() + b"\n\n")
        self.wfile.flush()

    def _end_stream(self, call: Call, request: Mapping[str, Any], finish_reason: str) -> None:
        try:
            self._send_event(call.chunk(finish_reason=finish_reason))
            if (request.get("stream_options") or {}).get("include_usage"):
                self._send_event(call.chunk() | {"choices": [], "usage": call.usage})
            self.wfile.write(b"data: [DONE]\n\n")
        except OSError:
            self.close_connection = True

    def _say_broken(self, *, is_streamed: bool) -> None:
        error = {"error": {"message": "The model broke off.", "type": "server_error"}}
        if not is_streamed:
            self._send(502, error)
            return
        try:
            self._send_event(error)
        except OSError:
            self.close_connection = True

    def _send(self, status: int, body: Mapping[str, Any], headers: Mapping[str, str] | None = None) -> None:
        content = json.dumps(body).encode()
        self.send_response(status)
        lines = {"Content-Type": "application/json", "Content-Length": str(len(content))} | dict(headers or {})
        for name, value in lines.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)


def _completion(call: Call, text: str, finish_reason: str) -> dict[str, Any]:
    message = {"role": "assistant", "content": text}
    choice = {"index": 0, "message": message, "finish_reason": finish_reason}
    head = {"id": call.id, "object": "chat.completion", "created": int(time.time()), "model": call.model}
    return head | {"choices": [choice], "usage": call.usage}


def main() -> None:
    gateway = Gateway(Settings.from_environment(source="streaming-server"))
    server = Server(("127.0.0.1", int(sys.argv[1]) if len(sys.argv) > 1 else 8080), gateway)
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        server.server_close()
    finally:
        gateway.close()


if __name__ == "__main__":
    main()
