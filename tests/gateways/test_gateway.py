"""The modules that every gateway in Python shares, against a running server: asked, reported, and through outages."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from accounts.api_keys import revoke_api_key
from metering.models import AdmissionSettings, Event, Hold
from tests.gateways.conftest import GATEWAYS

from kilotoken_gateway import Gateway, Refused, Settings, digest_of  # isort: skip  found where conftest says

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def address(request) -> str:
    """Kilotoken's: a process of its own where the test ends it."""
    needed = "kilotoken" if "kilotoken" in request.fixturenames else "live_server"
    return str(request.getfixturevalue(needed).url)


@pytest.fixture
def made(address, service_token, tmp_path) -> Iterator[Callable[..., Gateway]]:
    """Makes gateways that are closed at the end; all of the same machine, so with the same spool."""
    gateways: list[Gateway] = []

    def make(**options: Any) -> Gateway:
        settings = {"url": address, "token": service_token.secret, "spool": Path(tmp_path / "spool")} | options
        gateways.append(Gateway(Settings(**settings)))
        return gateways[-1]

    yield make
    for gateway in gateways:
        gateway.close()


@pytest.fixture
def gateway(made) -> Gateway:
    return made()


def admit(gateway: Gateway, secret: str, **fields: Any) -> Any:
    wanted = {"call_id": str(uuid4()), "model": "m-1", "prompt_tokens": 10, "max_tokens": 20} | fields
    return gateway.admit(digest_of(secret), **wanted)


def report(gateway: Gateway, admitted: Any, **data: Any) -> None:
    gateway.report(gateway.event(admitted, {"model": admitted.model} | data, ended_at=time.time()))


def states() -> list[str]:
    return list(Hold.objects.order_by("created_at").values_list("state", flat=True))


def test_a_call_is_held_and_its_report_settles_it(gateway, acme, acme_key, totals, limited):
    limited(acme, 1)
    admitted = admit(gateway, acme_key.secret)
    assert admitted.identity.organisation == acme.public_id
    assert admitted.headers["x-ratelimit-remaining-requests"] == "0"
    assert states() == ["held"]
    report(gateway, admitted, input_tokens=9, output_tokens=4)
    assert gateway.spool.drain(10)
    assert totals(acme) == {"input_tokens": 9, "output_tokens": 4, "requests": 1}
    assert states() == ["settled"]


def test_a_call_that_used_nothing_gives_back_what_it_held(gateway, acme, acme_key, limited):
    limited(acme, 1)
    gateway.release(admit(gateway, acme_key.secret))
    assert gateway.spool.drain(10)
    assert states() == ["released"]
    admit(gateway, acme_key.secret)


def test_a_refusal_has_status_code_and_headers(gateway, acme, acme_key, limited):
    limited(acme, 0)
    with pytest.raises(Refused) as refused:
        admit(gateway, acme_key.secret)
    assert (refused.value.status, refused.value.code) == (429, "quota_exceeded")
    assert int(refused.value.headers["retry-after"]) > 0


def test_a_running_call_gets_more_room_while_there_is_some(gateway, acme, acme_key, limited):
    limited(acme, 50, measure="meter", meter_key="output_tokens")
    admitted = admit(gateway, acme_key.secret)
    assert gateway.extend(admitted, {"output_tokens": 25})
    assert not gateway.extend(admitted, {"output_tokens": 25})


def test_a_revoked_key_is_refused_on_its_next_call(gateway, acme_key):
    assert gateway.identify(acme_key.digest)
    admit(gateway, acme_key.secret)
    revoke_api_key(acme_key.api_key, actor="test")
    with pytest.raises(Refused, match="revoked"):
        admit(gateway, acme_key.secret)


def test_an_outage_is_open_up_to_its_bound_and_no_usage_is_lost(gateway, kilotoken, acme, acme_key, totals):
    AdmissionSettings.objects.create(organisation=acme, unreachable_requests=3)
    report(gateway, admit(gateway, acme_key.secret), input_tokens=1)
    kilotoken.kill()
    for _ in range(3):
        report(gateway, admit(gateway, acme_key.secret), input_tokens=1)
    with pytest.raises(Refused) as refused:
        admit(gateway, acme_key.secret)
    assert refused.value.status == 503
    kilotoken.start()
    assert gateway.spool.drain(20)
    assert totals(acme) == {"input_tokens": 4, "requests": 4}


def test_the_bound_counts_money_by_the_last_quote(gateway, kilotoken, acme, acme_key, priced):
    priced(acme)
    AdmissionSettings.objects.create(organisation=acme, unreachable_amount="0.07", unreachable_requests=None)
    admit(gateway, acme_key.secret)  # 30 tokens: 0.03
    kilotoken.kill()
    admit(gateway, acme_key.secret)
    admit(gateway, acme_key.secret)
    with pytest.raises(Refused):
        admit(gateway, acme_key.secret)


def test_a_restart_in_the_middle_of_an_outage_counts_on(made, kilotoken, acme, acme_key):
    AdmissionSettings.objects.create(organisation=acme, unreachable_requests=2)
    first = made()
    admit(first, acme_key.secret)
    kilotoken.kill()
    admit(first, acme_key.secret)
    second = made()
    assert second.identify(acme_key.digest).organisation == acme.public_id
    admit(second, acme_key.secret)
    with pytest.raises(Refused):
        admit(second, acme_key.secret)


def test_whoever_wants_it_closed_is_closed(gateway, kilotoken, acme, acme_key):
    AdmissionSettings.objects.create(organisation=acme, when_unreachable="closed")
    admit(gateway, acme_key.secret)
    kilotoken.kill()
    with pytest.raises(Refused) as refused:
        admit(gateway, acme_key.secret)
    assert refused.value.code == "metering_unavailable"


def test_an_outage_lets_in_no_key_that_is_unknown_or_was_refused(gateway, kilotoken, acme_key):
    admit(gateway, acme_key.secret)
    revoke_api_key(acme_key.api_key, actor="test")
    with pytest.raises(Refused):
        admit(gateway, acme_key.secret)
    kilotoken.kill()
    for secret in (acme_key.secret, "sk-kt-never-seen"):
        with pytest.raises(Refused):
            admit(gateway, secret)
        with pytest.raises(Refused):
            gateway.identify(digest_of(secret))


def test_a_token_that_does_not_work_is_no_outage_but_closed(made, service_token, acme_key):
    admit(made(), acme_key.secret)
    with pytest.raises(Refused) as refused:
        admit(made(token="kt-service-wrong"), acme_key.secret)
    assert refused.value.code == "metering_misconfigured"


def test_a_full_spool_lets_no_new_call_in(made, acme_key):
    with pytest.raises(Refused, match="no room"):
        admit(made(spool_max_bytes=0), acme_key.secret)


def test_what_was_sent_twice_counts_once(gateway, acme, acme_key, totals):
    event = gateway.event(admit(gateway, acme_key.secret), {"input_tokens": 3}, ended_at=time.time())
    for _ in range(2):
        gateway.report(event)
    assert gateway.spool.drain(10)
    assert Event.objects.count() == 1
    assert totals(acme) == {"input_tokens": 3, "requests": 1}


# A gateway that says how many calls it has let through and reported, until it is killed.
DOOMED = """
import sys, time, pathlib, uuid
from kilotoken_gateway import Gateway, Settings, digest_of

url, token, spool, key = sys.argv[1:]
gateway = Gateway(Settings(url=url, token=token, spool=pathlib.Path(spool), source="doomed"))
for number in range(3):
    admitted = gateway.admit(digest_of(key), call_id=str(uuid.uuid4()), model="m-1", prompt_tokens=10, max_tokens=5)
    if number == 0:
        gateway.report(gateway.event(admitted, {"input_tokens": 9, "output_tokens": 4}, ended_at=time.time()))
print("begun", flush=True)
time.sleep(600)
"""


def test_calls_that_ran_when_a_gateway_was_killed_are_reported_by_the_next(
    live_server, made, service_token, acme, acme_key, totals, tmp_path
):
    environment = os.environ | {"PYTHONPATH": str(GATEWAYS / "litellm")}
    arguments = [live_server.url, service_token.secret, str(tmp_path / "spool"), acme_key.secret]
    doomed = subprocess.Popen([sys.executable, "-c", DOOMED, *arguments], env=environment, stdout=subprocess.PIPE)
    assert doomed.stdout is not None
    assert doomed.stdout.readline() == b"begun\n"
    neighbour = made()
    assert neighbour.spool.drain(10)
    assert Event.objects.filter(data__metering="estimated").count() == 0
    doomed.kill()
    doomed.wait()
    assert made().spool.drain(10)
    assert totals(acme) == {"input_tokens": 29, "output_tokens": 4, "requests": 3}
    assert Event.objects.filter(data__metering="estimated").count() == 2
    assert set(states()) == {"settled"}
