"""LiteLLM's real proxy with the plugin in front of an OpenAI whose usage is known.

Collected with LITELLM_COMMAND=/path/to/litellm, or with REQUIRE_LITELLM=1. The proxy takes half a minute to start, so
one proxy serves all tests, and every test has an organisation of its own.
"""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
import requests
from django.utils import timezone

from accounts.api_keys import create_api_key, revoke_api_key
from metering.admission import expire_holds
from metering.models import AdmissionSettings, Event, Hold
from tests import factories
from tests.clients.fake_openai import FakeOpenAI, used
from tests.gateways import litellm_proxy

pytestmark = pytest.mark.django_db(transaction=True)
SECONDS = 30


@pytest.fixture
def call(kilotoken, service_token, upstream, tmp_path) -> Iterator[Callable[..., requests.Response]]:
    """A running proxy, as a function that makes a call through it."""
    environment = {
        "KILOTOKEN_URL": kilotoken.url,
        "KILOTOKEN_TOKEN": service_token.secret,
        "KILOTOKEN_SPOOL": str(tmp_path / "spool"),
        "KILOTOKEN_TTL_SECONDS": "30",
    }
    with litellm_proxy.proxy(tmp_path, environment, upstream.url) as url:

        def make(key: str, **members: Any) -> requests.Response:
            body = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "hello " * 20}]}
            is_streamed = bool(members.get("stream"))
            headers = {"Authorization": f"Bearer {key}", **members.pop("headers", {})}
            return requests.post(
                url + "/v1/chat/completions", json=body | members, headers=headers, timeout=60, stream=is_streamed
            )

        make.url = url  # type: ignore[attr-defined]
        yield make


def until(condition: Callable[[], bool], seconds: float = SECONDS) -> None:
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert condition()


def number_of_events() -> int:
    return Event.objects.filter(type="ai.usage").count()


def read_some(answer: requests.Response, lines: int) -> None:
    """The first lines of a stream, and then away."""
    for number, _ in enumerate(answer.iter_lines()):
        if number >= lines:
            break
    answer.raw.close()
    answer.close()


def test_a_day_in_the_life_of_a_proxy(call, kilotoken, acme, acme_key, totals, limited, priced, upstream: FakeOpenAI):
    """One story, since the proxy takes long to start: served, streamed, retried, refused, failed, broken off."""
    key = acme_key.secret

    # Served, whole and streamed, and with a retry: each once, with what the provider counted.
    limited(acme, 1000)
    answer = call(key)
    assert answer.ok, answer.text
    assert answer.headers["x-ratelimit-limit-requests"] == "1000"
    stream = call(key, stream=True)
    assert stream.ok
    assert b"[DONE]" in stream.content
    assert call(key, model="flaky-model").ok
    # A caller who gives two calls one id has made two calls.
    for _ in range(2):
        assert call(key, headers={"x-litellm-call-id": "the same"}).ok
    until(lambda: number_of_events() == 5)
    assert totals(acme) == used(5)
    assert sum(upstream.served.values()) == 5
    assert set(Event.objects.values_list("api_key_id", flat=True)) == {acme_key.api_key.pk}
    assert set(Hold.objects.values_list("state", flat=True)) == {"settled"}
    kept = str(list(Event.objects.values()))
    assert key not in kept
    assert "hello" not in kept
    assert "sk-upstream" not in kept

    # Failed: nothing used, nothing held.
    assert call(key, model="broken-model").status_code == 500
    until(lambda: Hold.objects.filter(model="broken-model", state="released").count() == 1)

    # Broken off in the middle, and before the first word: estimated, and settled.
    read_some(call(key, model="slow-model", stream=True), lines=12)
    until(lambda: Event.objects.filter(data__model="slow-model").count() == 1)
    slow = Event.objects.get(data__model="slow-model").data
    assert slow["metering"] == "estimated"
    assert 20 <= slow["input_tokens"] <= 60
    assert 3 <= slow["output_tokens"] <= 60
    with pytest.raises(requests.exceptions.ReadTimeout):
        requests.post(
            call.url + "/v1/chat/completions",
            json={"model": "mute-model", "stream": True, "messages": [{"role": "user", "content": "hello"}]},
            headers={"Authorization": f"Bearer {key}"},
            timeout=2,
        )
    until(lambda: Event.objects.filter(data__model="mute-model").count() == 1)
    assert Event.objects.get(data__model="mute-model").data["metering"] == "estimated"
    totals(acme)
    assert set(Hold.objects.values_list("state", flat=True)) == {"settled", "released"}

    # Who may not.
    assert call("sk-kt-nobody").status_code == 401
    assert call("sk-kt-nobody").json()["error"]["type"] == "key_unknown"
    assert requests.get(call.url + "/v1/models", headers={"Authorization": "Bearer sk-x"}, timeout=9).status_code == 401
    assert requests.get(call.url + "/v1/models", headers={"Authorization": f"Bearer {key}"}, timeout=9).ok
    assert call(litellm_proxy.MASTER_KEY).status_code == 401
    project = factories.default_project(acme)
    _, small = create_api_key(acme, project=project, name="Small", actor="test", allowed_models=["small-*"])
    refused = call(small.secret)
    assert (refused.status_code, refused.json()["error"]["type"]) == (403, "model_not_allowed")
    assert call(small.secret, model="small-model").ok

    # Over budget: 402 with the reason, before anything reaches the provider.
    priced(acme)
    limited(acme, "0.15", measure="spend", currency="USD", window="month")
    before = sum(upstream.served.values())
    refused = call(key, max_tokens=200)
    assert refused.status_code == 402, refused.text
    error = refused.json()["error"]
    assert error["type"] == "spend_limit_exceeded"
    assert "spending limit" in error["message"]
    assert error["provider_specific_fields"]["kilotoken"]["code"] == "spend_limit_exceeded"
    refused = call(key, max_tokens=200, stream=True)
    assert refused.status_code == 402
    assert sum(upstream.served.values()) == before

    # A limit of requests: 429, with what a client needs to wait.
    other = factories.organisation("Umbrella", factories.user("una@umbrella.example"))
    other_key = factories.api_key(other)
    limited(other, 1)
    assert call(other_key.secret).ok
    refused = call(other_key.secret)
    assert refused.status_code == 429
    assert int(refused.headers["retry-after"]) > 0
    assert refused.headers["x-ratelimit-remaining-requests"] == "0"

    # Revoked: refused on the very next call.
    revoke_api_key(other_key.api_key, actor="test")
    assert call(other_key.secret).json()["error"]["type"] == "key_revoked"


def test_nothing_is_lost_when_kilotoken_is_killed_and_restarted_under_load(
    call, kilotoken, acme, acme_key, totals, upstream: FakeOpenAI
):
    AdmissionSettings.objects.create(organisation=acme, unreachable_requests=10_000)
    assert call(acme_key.secret).ok

    def some_calls(number: int) -> list[int]:
        return [call(acme_key.secret, stream=bool(turn % 2)).status_code for turn in range(number)]

    with ThreadPoolExecutor(6) as pool:
        running = [pool.submit(some_calls, 25) for _ in range(6)]
        for _ in range(2):
            time.sleep(2)
            kilotoken.kill()
            time.sleep(2)
            kilotoken.start()
        answers = [status for one in running for status in one.result()]
    # The first call after a crash may meet it; every other is let through, and every one that was served is counted.
    assert set(answers) <= {200, 503}
    assert answers.count(200) > 100
    served = sum(upstream.served.values())
    until(lambda: number_of_events() == served)
    assert totals(acme) == used(served)


def test_a_stream_longer_than_its_hold_keeps_what_it_holds(call, acme, acme_key, totals, limited):
    """Words come every tenth of a second; the hold would have run out after thirty seconds."""
    limited(acme, 100_000, measure="meter", meter_key="output_tokens")
    answer = call(acme_key.secret, model="slow-model", stream=True, max_tokens=20)
    lines = answer.iter_lines()
    gaps, last = [], time.monotonic()
    deadline = last + 34
    while last < deadline:
        next(lines)
        gaps.append(time.monotonic() - last)
        last = time.monotonic()
    hold = Hold.objects.get()
    assert expire_holds(timezone.now()) == 0
    assert hold.state == "held"
    assert hold.expires_at > hold.created_at + timedelta(seconds=50)
    assert int(hold.estimate["output_tokens"]) > 200  # what went by, not only what was asked for
    assert max(gaps[20:]) < 2
    answer.raw.close()
    answer.close()
    until(lambda: Event.objects.filter(data__model="slow-model").count() == 1)
    totals(acme)
    assert Hold.objects.get().state == "settled"


def test_an_organisation_that_wants_it_is_closed_in_an_outage(call, kilotoken, acme, acme_key):
    AdmissionSettings.objects.create(organisation=acme, when_unreachable="closed")
    assert call(acme_key.secret).ok
    kilotoken.kill()
    refused = call(acme_key.secret)
    assert refused.status_code == 503
    assert refused.json()["error"]["type"] == "metering_unavailable"
