"""Limits asked at once by processes of their own, and through two web servers of which one is killed: never passed."""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from datetime import datetime
from decimal import Decimal
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any

import pytest
from django.utils import timezone

from metering.admission import expire_holds
from metering.admission.requests import LONGEST
from metering.models import Hold
from metering.recounting import compare_counters
from tests.factories import KeyWithSecret
from tests.metering.admission_world import counter, estimate, quota
from tests.metering.test_folding_side_by_side import ROOT, test_database
from tests.metering.test_kill_web import web_server

pytestmark = pytest.mark.django_db(transaction=True)

WORKER = Path(__file__).with_name("admission_worker.py")


def allowed_in_processes(key: KeyWithSecret, now: datetime, *asked: Sequence[int]) -> int:
    """How many calls are let through of those that a process each asks for; all begin once all are there."""
    with ExitStack() as stack:
        workers = [stack.enter_context(_worker(f"w-{n}", key.digest, now, units)) for n, units in enumerate(asked)]
        for worker in workers:
            assert worker.stdout.readline() == "ready\n"
        for worker in workers:
            worker.stdin.write("\n")
            worker.stdin.flush()
        return sum(int(worker.stdout.readline()) for worker in workers)


@contextmanager
def _worker(name: str, digest: str, now: datetime, units: Sequence[int]) -> Iterator[Any]:
    command = [sys.executable, str(WORKER), name, digest, now.isoformat(), *map(str, units)]
    environment = os.environ | {"DATABASE_URL": test_database(), "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT, env=environment
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def test_twenty_processes_that_each_ask_for_75_of_500_get_exactly_six(acme, acme_key):
    now = timezone.now()
    limit = quota(acme, "output_tokens", 500, "day", now=now)

    assert allowed_in_processes(acme_key, now, *[[75]] * 20) == 6

    assert counter(limit) == (0, 450)
    assert compare_counters(acme, now=now) == []


def test_two_hundred_calls_at_once_never_spend_more_than_five_dollars(acme, acme_key):
    now = timezone.now()
    estimate(acme, "output_tokens", "0.001", valid_from=now)
    limits = [quota(acme, "USD", 5, now=now, set_by="credit"), quota(acme, "USD", 5, "month", now=now)]

    allowed = allowed_in_processes(acme_key, now, *[range(70, 90)] * 10)

    assert Hold.objects.count() == allowed
    for limit in limits:
        used, held = counter(limit)
        assert used == 0
        # What is left is less than the smallest call.
        assert Decimal("4.91") < held <= 5
    assert compare_counters(acme, now=now) == []


def test_through_two_web_servers_of_which_one_is_killed_no_limit_is_passed(acme, acme_key, service_token):
    limit = quota(acme, "output_tokens", 500, "day", now=timezone.now())
    with web_server() as (doomed, one), web_server() as (_, other):
        calls = [
            {"call_id": f"c-{n}", "api_key": acme_key.secret, "estimate": {"output_tokens": 5}} for n in range(400)
        ]
        asked = threading.Semaphore(0)

        def ask(number: int) -> dict[str, Any]:
            ports = (one, other) if number % 2 else (other, one)
            answer = _ask(ports, service_token.secret, calls[number])
            asked.release()
            return answer

        with ThreadPoolExecutor(16) as gateways:
            answers = gateways.map(ask, range(400))
            for _ in range(60):
                asked.acquire()
            os.killpg(doomed.pid, signal.SIGKILL)
            found = list(answers)

    allowed = [answer for answer in found if answer["decision"] == "allow"]
    assert len(allowed) == 100
    assert Hold.objects.count() == 100
    assert {answer["id"] for answer in allowed} == set(Hold.objects.values_list("id", flat=True))
    assert counter(limit) == (0, 500)
    assert compare_counters(acme, now=timezone.now()) == []
    assert expire_holds(timezone.now() + LONGEST) == 100
    assert counter(limit) == (0, 0)


def _ask(ports: Sequence[int], secret: str, call: dict[str, Any]) -> dict[str, Any]:
    """As a gateway does: the next server with the same id of the call, where one does not answer."""
    for port in ports:
        try:
            with closing(HTTPConnection("127.0.0.1", port, timeout=30)) as sender:
                sender.request("POST", "/v1/admissions", json.dumps(call), {"Authorization": f"Bearer {secret}"})
                answer = sender.getresponse()
                assert answer.status == 200
                found: dict[str, Any] = json.load(answer)
                return found
        except (OSError, HTTPException):
            continue
    raise AssertionError("no server answers")
