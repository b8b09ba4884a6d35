"""The real Envoy with the configuration that ships, before a model server.

Collected with ENVOY_COMMAND=/path/to/envoy; made with Envoy 1.39. What Envoy sends is also sent in test_authorize.py.
"""

import os
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest
import requests

from accounts.api_keys import create_api_key
from metering.models import Hold
from tests import factories
from tests.gateways.conftest import GATEWAYS
from tests.gateways.model_server import ModelServer
from tests.gateways.web_process import free_port, wait_for_port

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def models() -> Iterator[ModelServer]:
    with ModelServer() as server:
        yield server


@pytest.fixture
def site(kilotoken, service_token, models, tmp_path) -> Iterator[str]:
    """The address of a running Envoy, configured as the README says, with other ports."""
    port = free_port()
    config = (GATEWAYS / "envoy" / "envoy.yaml").read_text()
    for named, ours in (
        ("address: 0.0.0.0, port_value: 8080", f"address: 127.0.0.1, port_value: {port}"),
        ("address: meter.example.com, port_value: 80", f"address: 127.0.0.1, port_value: {kilotoken.port}"),
        ("address: 127.0.0.1, port_value: 8001", f"address: 127.0.0.1, port_value: {models.port}"),
        ("kt-service-PUT-YOURS-HERE", service_token.secret),
    ):
        assert named in config
        config = config.replace(named, ours)
    (tmp_path / "envoy.yaml").write_text(config)
    command = [os.environ["ENVOY_COMMAND"], "-c", str(tmp_path / "envoy.yaml"), "--log-level", "warning"]
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen([*command, "--concurrency", "1", "--use-dynamic-base-id"], stdout=log, stderr=log)
    try:
        wait_for_port(port, process)
        yield f"http://127.0.0.1:{port}/v1/chat/completions"
    finally:
        process.terminate()
        process.wait(10)


def call(site: str, key: str, body: Any = None, **headers: str) -> requests.Response:
    sent = {"Authorization": f"Bearer {key}", **headers}
    return requests.post(site, json=body or {"messages": []}, headers=sent, timeout=20)


def test_a_call_that_may_pass_reaches_the_model_with_its_admission(site, acme, acme_key, limited):
    limited(acme, 10)
    answer = call(site, acme_key.secret, **{"X-Kilotoken-Organisation": "org_made_up"})
    assert answer.status_code == 200, answer.text
    assert answer.json()["x-kilotoken-admission"] == Hold.objects.get().id
    assert answer.json()["x-kilotoken-organisation"] == acme.public_id
    assert answer.headers["x-ratelimit-remaining-requests"] == "9"


def test_refusals_reach_the_caller_as_they_are(site, acme, acme_key, models, limited, priced):
    answer = call(site, "sk-kt-nobody")
    assert (answer.status_code, answer.json()["error"]["code"]) == (401, "key_unknown")
    limited(acme, 0)
    answer = call(site, acme_key.secret)
    assert (answer.status_code, answer.json()["error"]["code"]) == (429, "quota_exceeded")
    assert int(answer.headers["retry-after"]) > 0
    priced(acme)
    limited(acme, "0.001", measure="spend", currency="USD", window="none")
    assert call(site, acme_key.secret).status_code == 402
    assert models.calls == []


def test_a_caller_cannot_speak_for_the_gateway(site, acme, acme_key, limited):
    project = factories.default_project(acme)
    _, large = create_api_key(acme, project=project, name="Large", actor="test", allowed_models=["large-*"])
    forged = {"X-Kilotoken-Model": "large-1", "X-Kilotoken-Hold": "none", "X-Kilotoken-Call-Id": "always the same"}
    assert call(site + "?model=large-1", large.secret, **forged).status_code == 403
    limited(acme, 1)
    assert call(site, acme_key.secret, **forged).status_code == 200
    assert call(site, acme_key.secret, **forged).status_code == 429
    assert call(site, "sk-kt-nobody", **{"X-Kilotoken-Key-Sha256": acme_key.digest}).status_code == 401


def test_a_key_bound_to_networks_is_held_to_the_address_that_envoy_saw(site, acme):
    project = factories.default_project(acme)
    _, here = create_api_key(acme, project=project, name="Here", actor="test", allowed_networks=["127.0.0.0/8"])
    _, there = create_api_key(acme, project=project, name="There", actor="test", allowed_networks=["192.0.2.0/24"])
    assert call(site, here.secret, **{"X-Forwarded-For": "192.0.2.7"}).status_code == 200
    assert call(site, there.secret, **{"X-Forwarded-For": "192.0.2.7"}).status_code == 403


def test_model_and_sizes_are_read_from_the_body_that_the_model_gets_too(site, acme, models):
    project = factories.default_project(acme)
    _, small = create_api_key(acme, project=project, name="Small", actor="test", allowed_models=["small-*"])
    body = {"model": "small-1", "max_tokens": 77, "messages": [{"role": "user", "content": "hello " * 20_000}]}
    answer = call(site, small.secret, body, **{"X-Kilotoken-Model": "made-up"})
    assert answer.status_code == 200, answer.text
    assert answer.json()["x-kilotoken-model"] == "small-1"
    assert int(answer.json()["content-length"]) > 120_000
    hold = Hold.objects.get()
    assert (hold.model, hold.estimate["output_tokens"]) == ("small-1", "77")
    assert 29_000 < int(hold.estimate["input_tokens"]) < 31_000
    refused = call(site, small.secret, body | {"model": "large-1"})
    assert (refused.status_code, refused.json()["error"]["code"]) == (403, "model_not_allowed")
    assert len(models.calls) == 1


def test_a_body_without_a_model_cannot_bring_one_in_a_header(site, acme_key):
    answer = call(site, acme_key.secret, **{"X-Kilotoken-Model": "made-up"})
    assert answer.status_code == 200
    assert answer.json().get("x-kilotoken-model", "") == ""


def test_without_kilotoken_nothing_passes(site, kilotoken, acme_key, models: ModelServer):
    kilotoken.kill()
    assert call(site, acme_key.secret).status_code == 503
    assert models.calls == []
