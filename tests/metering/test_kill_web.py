"""The web server killed while it takes a stream of batches: what it acknowledged is there, a resend doubles nothing."""

import json
import os
import random
import signal
import socket
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from datetime import UTC, datetime
from http.client import HTTPConnection, HTTPException
from pathlib import Path

import pytest
from django.db import connection
from django.utils import timezone

from config.programs import web_command
from metering.models import Event, IngestBatch
from metering.reports import UsageFilter, usage
from tests.metering.usage_world import fold_all

pytestmark = pytest.mark.django_db(transaction=True)

ROOT = Path(__file__).resolve().parents[2]
BATCHES, SIZE = 40, 200
TOTAL = BATCHES * SIZE
SMALL_REQUESTS, SENDERS = 1000, 8


def test_killed_web_server_loses_nothing_it_acknowledged_and_a_resend_doubles_nothing(acme, acme_key, service_token):
    batches = [batch(acme_key.api_key.public_id, number) for number in range(BATCHES)]
    for kills_after in (3, 9, 20):
        with web_server() as (server, port):
            told = send_until_it_dies(server, port, service_token.secret, batches, kills_after)
        assert Event.objects.filter(event_id__in=told).count() == len(told)
        assert Event.objects.count() % SIZE == 0
        fold_all(timezone.now())
    with web_server() as (_, port):
        for body in batches:
            assert post(port, service_token.secret, body) <= {"accepted", "duplicate"}
    fold_all(timezone.now())
    assert Event.objects.count() == TOTAL
    assert totals(acme) == {"input_tokens": sum(range(TOTAL)), "output_tokens": TOTAL}


def test_killed_web_server_keeps_the_small_requests_that_it_acknowledged(acme, acme_key, service_token):
    """Requests of the same moment are committed together: all that was told of any of them is there."""
    requests = [batch(acme_key.api_key.public_id, number, size=number % 3 + 1) for number in range(SMALL_REQUESTS)]
    told: list[str] = []
    for killed_after in (50, 500):
        with web_server() as (server, port):
            told += send_at_once(port, service_token.secret, requests, killed_after=killed_after, server=server)
        assert set(told) <= set(Event.objects.values_list("event_id", flat=True))
        assert sum(IngestBatch.objects.values_list("event_count", flat=True)) == Event.objects.count()
    with web_server() as (_, port):
        send_at_once(port, service_token.secret, requests)
    fold_all(timezone.now())
    numbers = {int(event["id"]) for request in requests for event in request}
    assert Event.objects.count() == len(numbers)
    assert totals(acme) == {"input_tokens": sum(numbers), "output_tokens": len(numbers)}


def send_at_once(
    port: int, secret: str, requests: list[list[dict]], *, killed_after: int | None = None, server=None
) -> list[str]:
    """Eight senders share the requests; the ids that were acknowledged. The server is killed after so many."""
    told: list[str] = []

    def send(own: list[list[dict]]) -> None:
        for body in own:
            try:
                assert post(port, secret, body) <= {"accepted", "duplicate"}
            except (OSError, HTTPException):
                assert killed_after is not None
                return
            told.extend(event["id"] for event in body)
            if killed_after is not None and len(told) >= killed_after:
                with suppress(ProcessLookupError):
                    os.killpg(server.pid, signal.SIGKILL)

    with ThreadPoolExecutor(SENDERS) as pool:
        for sender in [pool.submit(send, requests[number::SENDERS]) for number in range(SENDERS)]:
            sender.result(60)
    return told


def batch(key: str, number: int, size: int = SIZE) -> list[dict]:
    now = timezone.now().isoformat()
    return [
        {
            "specversion": "1.0",
            "source": "gateway",
            "id": str(place),
            "type": "ai.usage",
            "subject": key,
            "time": now,
            "data": {"model": "m-1", "input_tokens": place, "output_tokens": 1},
        }
        for place in range(number * SIZE, number * SIZE + size)
    ]


def send_until_it_dies(server, port: int, secret: str, batches: list[list[dict]], kills_after: int) -> list[str]:
    """The ids it acknowledged. It is killed, workers and all, at some point of the batch after those."""
    told: list[str] = []
    for number, body in enumerate(batches):
        if number == kills_after:
            threading.Timer(random.random() * 0.05, os.killpg, (server.pid, signal.SIGKILL)).start()
        try:
            post(port, secret, body)
        except (OSError, HTTPException):
            return told
        told += [event["id"] for event in body]
    raise AssertionError("the server was not killed")


def post(port: int, secret: str, body: list[dict]) -> set[str]:
    """The verdicts."""
    headers = {"Authorization": f"Bearer {secret}", "Content-Type": "application/cloudevents-batch+json"}
    with closing(HTTPConnection("127.0.0.1", port, timeout=30)) as sender:
        sender.request("POST", "/v1/events", json.dumps(body), headers)
        return {event["verdict"] for event in json.load(sender.getresponse())["events"]}


def totals(organisation) -> dict[str, int]:
    """Of the day, by meter."""
    start, end = datetime(2020, 1, 1, tzinfo=UTC), datetime(2200, 1, 1, tzinfo=UTC)
    filters = UsageFilter(meters=("input_tokens", "output_tokens"))
    report = usage(organisation, start=start, end=end, granularity="total", group_by=("meter",), filters=filters)
    return {row.group[0]: int(row.value) for row in report.rows}


@contextmanager
def web_server() -> Iterator[tuple["subprocess.Popen[bytes]", int]]:
    """The server that the starter starts, in a process group of its own, with the database of this test."""
    database, port = connection.settings_dict, free_port()
    url = f"postgresql://{database['USER']}@/{database['NAME']}?host={database['HOST']}"
    environment = {**os.environ, "DATABASE_URL": url, "SITE_URL": f"http://127.0.0.1:{port}"}
    server = subprocess.Popen(web_command(port), cwd=ROOT, env=environment, start_new_session=True)
    try:
        wait_for(port, server)
        yield server, port
    finally:
        if server.poll() is None:
            os.killpg(server.pid, signal.SIGKILL)
        server.wait()


def wait_for(port: int, server: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + 60
    while True:
        assert server.poll() is None, "the server ended"
        assert time.monotonic() < deadline, "the server does not answer"
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/accounts/login/", timeout=5)
        except urllib.error.HTTPError:
            return
        except OSError:
            time.sleep(0.1)
        else:
            return


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
