"""Admissions over HTTP, each with its hold committed, by one and by two web processes; calls of many organisations and
of one alone. Beside them, in the same run, a Django view that makes one look-up and nothing else: bare, and with the
middleware of this project.

Servers of their own, with the threads of the installation's, so that their number of processes is known.
"""

import json
import os
import random
import selectors
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from itertools import count
from pathlib import Path
from statistics import quantiles
from typing import Any

from django.utils import timezone

from accounts.models import Organisation
from config import programs
from metering.models import PriceEstimate
from metering.quotas import QuotaSpec, define_quota
from tests import factories
from tests.benchmarks.processes import cpu_seconds
from tests.benchmarks.sender import HOST

ROOT = Path(__file__).resolve().parents[2]
WEB_PROCESSES = (1, 2)
SECONDS_TO_START = 60
WARM_UP_SECONDS = 1.0
PLENTY = Decimal(10**15)
LONG_AGO = datetime(2026, 1, 1, tzinfo=UTC)
_calls = count(1)


@dataclass(frozen=True)
class Admitted:
    """Rates per second, latencies in milliseconds; `of_one_query…`: the rate as a share of the trivial view's,
    in a bare Django and with this project's middleware."""

    web_processes: int
    calls_of: str
    in_flight: int
    per_second: float
    p50_ms: float
    p95_ms: float
    p99_ms: float
    # CPU time for each.
    web_us: float
    postgres_us: float
    of_one_query: float
    of_one_query_here: float


@dataclass(frozen=True)
class _Measured:
    per_second: float
    latencies: list[float]
    web_us: float
    postgres_us: float


@dataclass(frozen=True)
class Callers:
    organisations: list[Organisation]
    secrets: list[str]
    token: str


def admit_calls(postgres: int, *, organisations: int, in_flight: int, seconds: float) -> list[Admitted]:
    """`postgres` is the id of PostgreSQL's first process."""
    callers = _callers(organisations)
    groups = ((f"{organisations} organisations", callers.secrets), ("one key", callers.secrets[:1]))
    rows = []
    for number in WEB_PROCESSES:
        plain = {}
        for kind in ("bare", "here"):
            with _server(f"tests.benchmarks.one_query_wsgi:{kind}", number) as server:
                plain[kind] = _measure(server, postgres, _look_ups(callers), in_flight, seconds)
        rows.append(_row(number, "one query, bare Django", in_flight, plain["bare"], plain))
        rows.append(_row(number, "one query, our middleware", in_flight, plain["here"], plain))
        with _server("config.wsgi:application", number) as server:
            for name, secrets in groups:
                found = _measure(server, postgres, _admissions(callers.token, secrets), in_flight, seconds)
                rows.append(_row(number, name, in_flight, found, plain))
    return rows


def _callers(organisations: int) -> Callers:
    """Each with limits of requests and tokens per minute and of spend per month, as gateways usually have."""
    owner, now = factories.user("admission@benchmark.example"), timezone.now()
    found = [factories.organisation(f"Calling {number}", owner) for number in range(organisations)]
    for organisation in found:
        for meter in ("input_tokens", "output_tokens"):
            PriceEstimate.objects.create(
                organisation=organisation,
                meter_key=meter,
                currency="USD",
                unit_price=Decimal("0.000002"),
                valid_from=LONG_AGO,
            )
        for spec in (
            QuotaSpec(measure="requests", amount=PLENTY, window="minute"),
            QuotaSpec(measure="meter", meter_key="output_tokens", amount=PLENTY, window="minute"),
            QuotaSpec(measure="spend", currency="USD", amount=PLENTY, window="month"),
        ):
            define_quota(organisation, spec, set_by="operator", now=now, actor="benchmark")
    secrets = [factories.api_key(organisation).secret for organisation in found]
    return Callers(found, secrets, factories.service_token("Admitting").secret)


def _admissions(token: str, secrets: Sequence[str]) -> Iterator[bytes]:
    dice = random.Random(1)
    while True:
        call = {
            "call_id": f"call-{next(_calls)}",
            "api_key": dice.choice(secrets),
            "model": "gpt-5-mini",
            "prompt_tokens": dice.randrange(20, 9000),
            "max_tokens": 1000,
        }
        body = json.dumps(call, separators=(",", ":")).encode()
        head = (
            f"POST /v1/admissions HTTP/1.1\r\nHost: {HOST}\r\nAuthorization: Bearer {token}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        yield head.encode() + body


def _look_ups(callers: Callers) -> Iterator[bytes]:
    dice = random.Random(1)
    while True:
        one = dice.choice(callers.organisations)
        yield f"GET /one-query?organisation={one.pk} HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode()


def _measure(
    server: tuple[int, int], postgres: int, requests: Iterator[bytes], in_flight: int, seconds: float
) -> _Measured:
    """After a warm-up. `server`: the id of its first process, and its port."""
    web, port = server
    _drive(port, requests, in_flight, WARM_UP_SECONDS)
    before = cpu_seconds(web), cpu_seconds(postgres)
    rate, latencies = _drive(port, requests, in_flight, seconds)
    web_us, postgres_us = (
        (cpu_seconds(root) - earlier) / len(latencies) * 1e6
        for root, earlier in zip((web, postgres), before, strict=True)
    )
    return _Measured(rate, latencies, web_us, postgres_us)


def _drive(port: int, requests: Iterator[bytes], in_flight: int, seconds: float) -> tuple[float, list[float]]:
    latencies: list[float] = []
    started = time.perf_counter()
    with selectors.DefaultSelector() as waiting:
        for _ in range(in_flight):
            line = socket.create_connection((HOST, port))
            line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            line.sendall(next(requests))
            waiting.register(line, selectors.EVENT_READ, [time.perf_counter(), b""])
        while waiting.get_map():
            for key, _ in waiting.select():
                state: list[Any] = key.data
                received: Any = key.fileobj
                state[1] += received.recv(65_536)
                if not _is_whole(state[1]):
                    continue
                now = time.perf_counter()
                latencies.append(now - state[0])
                if now - started >= seconds:
                    waiting.unregister(received)
                    received.close()
                    continue
                state[:] = [time.perf_counter(), b""]
                received.sendall(next(requests))
    return len(latencies) / (time.perf_counter() - started), latencies


def _is_whole(received: bytes) -> bool:
    head, separator, body = received.partition(b"\r\n\r\n")
    if not separator:
        return False
    if b" 200 " not in head[:20] or b'"decision":"deny"' in body:
        raise SystemExit(received[:2000].decode(errors="replace"))
    length = head.lower().partition(b"content-length:")[2].split(b"\r\n", 1)[0]
    return len(body) >= int(length)


def _row(processes: int, calls_of: str, in_flight: int, found: _Measured, plain: dict[str, _Measured]) -> Admitted:
    cuts = quantiles(found.latencies, n=100)
    return Admitted(
        web_processes=processes,
        calls_of=calls_of,
        in_flight=in_flight,
        per_second=found.per_second,
        p50_ms=cuts[49] * 1e3,
        p95_ms=cuts[94] * 1e3,
        p99_ms=cuts[98] * 1e3,
        web_us=found.web_us,
        postgres_us=found.postgres_us,
        of_one_query=found.per_second / plain["bare"].per_second,
        of_one_query_here=found.per_second / plain["here"].per_second,
    )


@contextmanager
def _server(application: str, processes: int) -> Iterator[tuple[int, int]]:
    """The installation's server with another number of processes: the id of the first, and the port."""
    with closing(socket.socket()) as probe:
        probe.bind((HOST, 0))
        port = int(probe.getsockname()[1])
    command = programs.web_command(port)
    command[command.index("--workers") + 1] = str(processes)
    command[-1] = application
    server = subprocess.Popen(command, cwd=ROOT, env=os.environ, start_new_session=True, stdout=sys.stderr)
    try:
        _wait_for(port, server)
        yield server.pid, port
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait()


def _wait_for(port: int, server: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + SECONDS_TO_START
    while time.monotonic() < deadline and server.poll() is None:
        with closing(socket.socket()) as probe:
            if probe.connect_ex((HOST, port)) == 0:
                return
        time.sleep(0.1)
    raise SystemExit("The server of the benchmark does not start.")
