"""The real nginx with the configuration that ships, before a model server."""

import os
import shutil
import subprocess
from collections.abc import Iterator

import pytest
import requests

from accounts.api_keys import create_api_key
from metering.models import Hold
from tests import factories
from tests.gateways.conftest import GATEWAYS
from tests.gateways.model_server import ModelServer
from tests.gateways.web_process import free_port, nginx, wait_for_port

pytestmark = pytest.mark.django_db(transaction=True)
MAIN = """
{user}
daemon off;
worker_processes 1;
pid {folder}/pid;
error_log {folder}/error.log;
events {{}}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    include site.conf;
}}
"""


@pytest.fixture
def models() -> Iterator[ModelServer]:
    with ModelServer() as server:
        yield server


@pytest.fixture
def site(kilotoken, service_token, models, tmp_path) -> Iterator[str]:
    """The address of a running nginx, configured as the README says, with other ports."""
    port = free_port()
    shutil.copy(GATEWAYS / "nginx" / "kilotoken.conf", tmp_path)
    (tmp_path / "kilotoken_token.conf").write_text(f'set $kilotoken_token "{service_token.secret}";\n')
    (tmp_path / "site.conf").write_text(
        with_ports((GATEWAYS / "nginx" / "site.conf").read_text(), kilotoken.port, models.port, port)
    )
    main = MAIN.format(folder=tmp_path, user="user root;" if os.getuid() == 0 else "")
    (tmp_path / "nginx.conf").write_text(main)
    process = subprocess.Popen(
        [nginx() or "nginx", "-p", str(tmp_path), "-c", str(tmp_path / "nginx.conf")], cwd=tmp_path
    )
    try:
        wait_for_port(port, process)
        yield f"http://127.0.0.1:{port}/models/small-1/v1/chat/completions"
    finally:
        process.terminate()
        process.wait(10)


def with_ports(shipped: str, kilotoken: int, models: int, own: int) -> str:
    for named, ours in (
        ("server meter.example.com:80;", f"server 127.0.0.1:{kilotoken};"),
        ("server 127.0.0.1:8001;", f"server 127.0.0.1:{models};"),
        ("listen 8080;", f"listen 127.0.0.1:{own};"),
    ):
        assert named in shipped
        shipped = shipped.replace(named, ours)
    return shipped


def call(site: str, key: str, **headers: str) -> requests.Response:
    return requests.post(site, json={"messages": []}, headers={"Authorization": f"Bearer {key}", **headers}, timeout=20)


def test_a_call_that_may_pass_reaches_the_model_with_its_admission(site, acme, acme_key, models):
    answer = call(site, acme_key.secret)
    assert answer.status_code == 200
    handed = answer.json()
    hold = Hold.objects.get()
    assert handed["x-kilotoken-admission"] == hold.id
    assert (handed["x-kilotoken-organisation"], handed["x-kilotoken-key"]) == (
        acme.public_id,
        acme_key.api_key.public_id,
    )
    assert "authorization" not in handed
    assert hold.model == handed["x-kilotoken-model"] == "small-1"


def test_refusals_reach_the_caller_with_their_own_status_and_reason(site, acme, acme_key, models, limited, priced):
    answer = call(site, "sk-kt-nobody")
    assert (answer.status_code, answer.json()["error"]["code"]) == (401, "key_unknown")

    project = factories.default_project(acme)
    _, large = create_api_key(acme, project=project, name="Large", actor="test", allowed_models=["large-*"])
    answer = call(site, large.secret)
    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "model_not_allowed")

    limited(acme, 0)
    answer = call(site, acme_key.secret)
    assert (answer.status_code, answer.json()["error"]["code"]) == (429, "quota_exceeded")
    assert int(answer.headers["retry-after"]) > 0
    assert answer.headers["x-ratelimit-limit-requests"] == "0"

    priced(acme)
    limited(acme, "0.001", measure="spend", currency="USD", window="none")
    answer = call(site, acme_key.secret)
    assert (answer.status_code, answer.json()["error"]["code"]) == (402, "spend_limit_exceeded")
    assert answer.headers["content-type"] == "application/json"
    assert models.calls == []


def test_a_caller_cannot_speak_for_the_gateway(site, acme, acme_key, limited):
    project = factories.default_project(acme)
    _, large = create_api_key(acme, project=project, name="Large", actor="test", allowed_models=["large-*"])
    forged = {"X-Kilotoken-Model": "large-1", "X-Kilotoken-Hold": "none", "X-Kilotoken-Call-Id": "always the same"}
    assert call(site, large.secret, **forged).status_code == 403
    limited(acme, 1)
    assert call(site, acme_key.secret, **forged).status_code == 200
    assert call(site, acme_key.secret, **forged).status_code == 429
    assert call(site, "sk-kt-nobody", **{"X-Kilotoken-Key-Sha256": acme_key.digest}).status_code == 401


def test_the_model_is_the_one_of_the_tidied_address(site, acme, models):
    project = factories.default_project(acme)
    _, small = create_api_key(acme, project=project, name="Small", actor="test", allowed_models=["small-*"])
    winding = requests.Request("POST", site, headers={"Authorization": f"Bearer {small.secret}"}).prepare()
    winding.url = site.replace("/small-1/", "/small-1/%2e%2e/large-1/")
    with requests.Session() as session:
        assert session.send(winding, timeout=20).status_code == 403
    assert call(site, small.secret).status_code == 200


def test_without_kilotoken_nothing_passes(site, kilotoken, acme_key, models: ModelServer):
    kilotoken.kill()
    answer = call(site, acme_key.secret)
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "metering_unavailable")
    assert models.calls == []
