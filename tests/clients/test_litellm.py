"""LiteLLM's proxy with its generic API callback in all three formats, and with its openmeter callback.

Run with LITELLM_COMMAND=/path/to/litellm; made with litellm[proxy] 1.106.
"""

import os
import socket
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from json import dumps
from pathlib import Path
from typing import Any

import pytest
import requests

from metering.models import Event, RejectedEvent
from tests.clients.fake_openai import SECRET, used

pytestmark = pytest.mark.django_db(transaction=True)
START_SECONDS = 90
# LiteLLM 1.106 drops what is reported while a batch is on its way: each batch is let through before the next call.
BATCH = 5
DELIVERY_SECONDS = 20
# Without a database the proxy asks this module whose key it is; whatever begins with sk- it reports as its SHA-256.
CUSTOM_AUTH = """
from litellm.proxy._types import UserAPIKeyAuth

async def user_api_key_auth(request, api_key):
    return UserAPIKeyAuth(api_key=api_key)
"""


@contextmanager
def proxy(folder: Path, callback: dict[str, Any], environment: dict[str, str], upstream: str) -> Iterator[str]:
    """A running proxy that reports through the callback."""
    model = {"api_base": upstream, "api_key": "sk-upstream-secret"}
    (folder / "our_auth.py").write_text(CUSTOM_AUTH)
    config = {
        "model_list": [
            {"model_name": name, "litellm_params": model | {"model": f"openai/{name}"}}
            for name in ("gpt-4o-mini", "flaky-model")
        ],
        "general_settings": {"master_key": f"sk-{'m' * 48}-1A2b3C4d", "custom_auth": "our_auth.user_api_key_auth"},
        "router_settings": {"num_retries": 2, "retry_after": 0},
    } | callback
    (folder / "config.yaml").write_text(dumps(config))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [os.environ["LITELLM_COMMAND"], "--config", str(folder / "config.yaml"), "--port", str(port)]
    base = {name: value for name, value in os.environ.items() if name in {"PATH", "HOME", "LANG"}}
    options = {
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        "DEFAULT_FLUSH_INTERVAL_SECONDS": "600",
        "DEFAULT_BATCH_SIZE": str(BATCH),
    }
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, cwd=folder, env=base | options | environment, stdout=log, stderr=log)
    try:
        yield _when_ready(f"http://127.0.0.1:{port}", process, folder / "log")
    finally:
        process.terminate()
        process.wait(30)


def _when_ready(url: str, process: subprocess.Popen[bytes], log: Path) -> str:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        try:
            if requests.get(url + "/health/liveliness", timeout=2).ok:
                return url
        except requests.ConnectionError:
            time.sleep(0.5)
    raise AssertionError(log.read_text()[-3000:])


def call(url: str, key: str, **members: Any) -> None:
    body = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": SECRET}]} | members
    headers = {"Authorization": f"Bearer {key}"}
    requests.post(url + "/v1/chat/completions", json=body, headers=headers, timeout=60).raise_for_status()


def number_of_events() -> int:
    return Event.objects.filter(type="ai.usage").count()


def wait_for_events(number: int, seconds: float = DELIVERY_SECONDS) -> None:
    deadline = time.monotonic() + seconds
    while number_of_events() < number and time.monotonic() < deadline:
        time.sleep(0.1)


@pytest.mark.parametrize("format", ["json_array", "ndjson", "single"])
def test_the_generic_callback_reports_every_call_once(
    live_server, service_token, acme_key, acme, totals, upstream, tmp_path, format
):
    settings = {
        "callback_type": "generic_api",
        "endpoint": live_server.url + "/v1/litellm",
        "headers": {"Authorization": f"Bearer {service_token.secret}"},
        "log_format": format,
    }
    callback = {"litellm_settings": {"callbacks": ["kilotoken"]}, "callback_settings": {"kilotoken": settings}}
    with proxy(tmp_path, callback, {}, upstream.url) as url:
        for group in range(1, 4):
            with ThreadPoolExecutor(BATCH) as pool:
                for done in [pool.submit(call, url, acme_key.secret) for _ in range(BATCH)]:
                    done.result()
            wait_for_events(group * BATCH)
        call(url, acme_key.secret, model="flaky-model")
        calls = 3 * BATCH + 1
        while number_of_events() < calls < 6 * BATCH:
            # Streams, until they fill a batch.
            call(url, acme_key.secret, stream=True)
            calls += 1
            wait_for_events(calls, seconds=2)
    assert not RejectedEvent.objects.exists(), list(RejectedEvent.objects.values())
    assert totals(acme) == used(calls)
    assert set(Event.objects.filter(type="ai.usage").values_list("data__model", flat=True)) == {
        "gpt-4o-mini",
        "flaky-model",
    }
    assert set(Event.objects.values_list("api_key_id", flat=True)) == {acme_key.api_key.pk}
    kept = str(list(Event.objects.values())) + str(list(RejectedEvent.objects.values()))
    assert SECRET not in kept
    assert "sk-upstream" not in kept
    assert acme_key.secret not in kept


def test_the_openmeter_callback_reports_every_call_once(
    live_server, service_token, acme_key, acme, totals, upstream, tmp_path
):
    environment = {"OPENMETER_API_ENDPOINT": live_server.url, "OPENMETER_API_KEY": service_token.secret}
    callback = {"litellm_settings": {"callbacks": ["openmeter"]}}
    with proxy(tmp_path, callback, environment, upstream.url) as url:
        for _ in range(5):
            call(url, acme_key.secret, user=acme_key.api_key.public_id)
        wait_for_events(5)
    # It says nothing about caching or reasoning.
    assert totals(acme) == {"input_tokens": 600, "output_tokens": 150, "requests": 5}
    assert Event.objects.filter(data__flags=["cache_unknown"]).count() == 5
