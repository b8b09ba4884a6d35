"""One sender: a process that keeps some connections busy for some seconds and says what came of it.

Reads its order as JSON from standard input, waits for the appointed moment, writes its report as JSON. It speaks just
enough HTTP to cost little, since it shares the machine with what is measured.
"""

import json
import re
import resource
import selectors
import socket
import sys
import time
from dataclasses import asdict, dataclass, field
from typing import Any

from tests.benchmarks.bodies import JSON_TYPES, numbered, templates

HOST = "127.0.0.1"
TEMPLATES = 16
_HEAD = (
    "POST /v1/events HTTP/1.1\r\nHost: {host}:{port}\r\nAuthorization: Bearer {token}\r\n"
    "Content-Type: {media_type}\r\nContent-Length: {length}\r\n\r\n"
)
_LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)
_ACCEPTED = re.compile(rb'"accepted":(\d+)')


@dataclass(frozen=True)
class Order:
    """What to send. `start_at` is on the wall clock; `number` keeps the senders' ids apart."""

    port: int
    token: str
    subjects: list[str]
    batch: int
    connections: int
    seconds: float
    start_at: float
    number: int
    run: int


@dataclass
class Report:
    """What came of it: events accepted, the seconds it took, this process's CPU, and how long each request took."""

    accepted: int = 0
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    latencies: list[float] = field(default_factory=list)


class _Line:
    """One connection with one request in flight."""

    def __init__(self, order: Order) -> None:
        self.socket = socket.create_connection((HOST, order.port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.received = b""
        self.sent_at = 0.0

    def send(self, request: bytes) -> None:
        self.received, self.sent_at = b"", time.perf_counter()
        self.socket.sendall(request)

    def answer(self) -> bytes | None:
        """The whole answer, once it is there."""
        self.received += self.socket.recv(262_144)
        head, separator, body = self.received.partition(b"\r\n\r\n")
        length = _LENGTH.search(head)
        if not separator or length is None or len(body) < int(length[1]):
            return None
        if b" 200 " not in head[:20]:
            raise SystemExit(self.received[:2000].decode(errors="replace"))
        return body


def send(order: Order) -> Report:
    made = templates(order.subjects, order.batch, TEMPLATES, order.number)
    lines = [_Line(order) for _ in range(order.connections)]
    heads = [_head(order, len(template)) for template in made]
    time.sleep(max(0.0, order.start_at - time.time()))
    report, started, cpu = Report(), time.perf_counter(), _cpu_seconds()
    count = order.run * 10**9 + order.number * 10**8
    with selectors.DefaultSelector() as waiting:
        for line in lines:
            waiting.register(line.socket, selectors.EVENT_READ, line)
            count += 1
            line.send(heads[count % TEMPLATES] + numbered(made[count % TEMPLATES], count))
        while waiting.get_map():
            for key, _ in waiting.select():
                line: Any = key.data
                body = line.answer()
                if body is None:
                    continue
                now = time.perf_counter()
                report.latencies.append(now - line.sent_at)
                report.accepted += int(_ACCEPTED.search(body)[1])  # type: ignore[index]
                if now - started >= order.seconds:
                    waiting.unregister(line.socket)
                    continue
                count += 1
                line.send(heads[count % TEMPLATES] + numbered(made[count % TEMPLATES], count))
    report.seconds, report.cpu_seconds = time.perf_counter() - started, _cpu_seconds() - cpu
    return report


def _head(order: Order, length: int) -> bytes:
    media_type = JSON_TYPES[order.batch == 1]
    return _HEAD.format(host=HOST, port=order.port, token=order.token, media_type=media_type, length=length).encode()


def _cpu_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


if __name__ == "__main__":
    print(json.dumps(asdict(send(Order(**json.load(sys.stdin))))))  # noqa: T201 (its answer)
