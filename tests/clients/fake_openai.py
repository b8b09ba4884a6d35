"""An OpenAI API that answers chat completions with a fixed usage, also as a stream, and fails on demand."""

import json
from collections import Counter
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Lock, Thread
from types import TracebackType
from typing import Any, Self

# What one call uses, as OpenAI reports it…
USAGE = {
    "prompt_tokens": 120,
    "completion_tokens": 30,
    "total_tokens": 150,
    "prompt_tokens_details": {"cached_tokens": 60},
    "completion_tokens_details": {"reasoning_tokens": 10},
}
# … and by our meters.
POOLS = {
    "input_tokens": Decimal(60),
    "cache_read_tokens": Decimal(60),
    "output_tokens": Decimal(30),
    "reasoning_tokens": Decimal(10),
}
SECRET = "a secret that must never be stored"


def used(calls: int, *, requests: int | None = None) -> dict[str, Decimal]:
    """Totals by meter after that many calls; `requests` where some more had no usage."""
    return {name: value * calls for name, value in POOLS.items()} | {
        "requests": Decimal(calls if requests is None else requests)
    }


class FakeOpenAI:
    """Answers while it is entered. A model whose name begins with `flaky` fails at its first call, one with `broken` at
    every call; `slow` streams for a hundred seconds, `mute` says nothing for as long."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._calls: Counter[str] = Counter()
        # Calls that were answered to the end, by model.
        self.served: Counter[str] = Counter()
        self.stopping = Event()
        fake = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                fake.answer(self, asked)

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/v1"

    def __enter__(self) -> Self:
        Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stopping.set()
        self._server.shutdown()
        self._server.server_close()

    def answer(self, request: BaseHTTPRequestHandler, asked: dict[str, Any]) -> None:
        with self._lock:
            self._calls[asked["model"]] += 1
            number = sum(self._calls.values())
            fails = asked["model"].startswith("flaky") and self._calls[asked["model"]] == 1
        if fails or asked["model"].startswith("broken"):
            _send(request, 500, "application/json", json.dumps({"error": {"message": "out of order"}}))
            return
        if asked["model"].startswith(("slow", "mute")):
            self._stream_slowly(request, asked, number)
            return
        # Counted before it is sent: whoever has the answer finds the count.
        with self._lock:
            self.served[asked["model"]] += 1
        if asked.get("stream"):
            _send(request, 200, "text/event-stream", _stream(asked, number))
        else:
            _send(request, 200, "application/json", json.dumps(_completion(asked, number)))

    def _stream_slowly(self, request: BaseHTTPRequestHandler, asked: dict[str, Any], number: int) -> None:
        """A word every tenth of a second until whoever asked has gone, or a silence of the same length."""
        request.send_response(200)
        request.send_header("Content-Type", "text/event-stream")
        request.send_header("Connection", "close")
        request.end_headers()
        request.close_connection = True
        head = _head(asked, number, "chat.completion.chunk")
        is_mute = asked["model"].startswith("mute")
        try:
            for turn in range(1000):
                # Never the same: LiteLLM takes a model that repeats itself for broken.
                delta = {"index": 0, "delta": {"content": f"word{turn} "}, "finish_reason": None}
                line = ": still here" if is_mute else f"data: {json.dumps(head | {'choices': [delta]})}"
                request.wfile.write(f"{line}\n\n".encode())
                request.wfile.flush()
                if self.stopping.wait(0.1):
                    return
        except OSError:
            return


def _send(request: BaseHTTPRequestHandler, status: int, content_type: str, body: str) -> None:
    request.send_response(status)
    request.send_header("Content-Type", content_type)
    request.send_header("Content-Length", str(len(body.encode())))
    request.end_headers()
    request.wfile.write(body.encode())


def _completion(asked: dict[str, Any], number: int) -> dict[str, Any]:
    message = {"role": "assistant", "content": SECRET}
    choices = [{"index": 0, "message": message, "finish_reason": "stop"}]
    return _head(asked, number, "chat.completion") | {"choices": choices, "usage": USAGE}


def _stream(asked: dict[str, Any], number: int) -> str:
    head = _head(asked, number, "chat.completion.chunk")
    chunks = [
        head | {"choices": [{"index": 0, "delta": {"role": "assistant", "content": SECRET}, "finish_reason": None}]},
        head | {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]},
    ]
    if (asked.get("stream_options") or {}).get("include_usage"):
        chunks.append(head | {"choices": [], "usage": USAGE})
    return "".join(f"data: {json.dumps(chunk)}\n\n" for chunk in chunks) + "data: [DONE]\n\n"


def _head(asked: dict[str, Any], number: int, kind: str) -> dict[str, Any]:
    return {"id": f"chatcmpl-{number}", "object": kind, "created": 1, "model": asked["model"]}
