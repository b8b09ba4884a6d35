"""The settings of a deployment, read by a process of their own, as a server would."""

import json
import os
import subprocess
import sys
from typing import Any

import pytest

from config.instance import ROOT

DEPLOYMENT = {
    "KILOTOKEN_ENVIRONMENT": "production",
    "SITE_URL": "https://meter.example.com",
    "SECRET_KEY": "a-secret-of-our-own-that-is-long-enough-for-anyone",
    "DATABASE_URL": "postgresql://kilotoken@db.example.com/kilotoken",
    "CELERY_BROKER_URL": "amqp://broker.example.com",
    "EMAIL_HOST": "mail.example.com",
}
SHOW = (
    "import json; from pathlib import Path; from config import settings as s;"
    "shown = lambda thing: str(thing) if isinstance(thing, Path) else type(thing).__name__;"  # addresses resolve later
    "print(json.dumps({name: getattr(s, name) for name in dir(s) if name.isupper()}, default=shown))"
)


def read(variables: dict[str, str]) -> "subprocess.CompletedProcess[str]":
    environment = {"PATH": os.environ["PATH"], **variables}
    command = [sys.executable, "-c", SHOW]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)


def settings(**changes: str) -> dict[str, Any]:
    done = read({**DEPLOYMENT, **changes})
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("name", sorted(DEPLOYMENT.keys() - {"KILOTOKEN_ENVIRONMENT"}))
def test_production_does_not_start_without(name):
    done = read({key: value for key, value in DEPLOYMENT.items() if key != name})
    assert done.returncode != 0
    assert f"Set {name} in the environment" in done.stderr


def test_production_is_strict_about_https_and_hosts():
    found = settings()
    assert found["DEBUG"] is False
    assert found["ALLOWED_HOSTS"] == ["meter.example.com"]
    assert found["SESSION_COOKIE_SECURE"] is found["CSRF_COOKIE_SECURE"] is found["SECURE_SSL_REDIRECT"] is True
    assert found["SECURE_HSTS_SECONDS"] >= 31_536_000
    assert found["DEVELOPMENT_MAILBOX"] is None
    assert "mailbox" not in found["MAILERS"]["default"]["BACKEND"]


def test_hosts_can_be_named():
    assert settings(ALLOWED_HOSTS="a.example,b.example")["ALLOWED_HOSTS"] == ["a.example", "b.example"]


def test_development_needs_nothing_and_opens_to_this_machine_only():
    done = read({})
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert set(found["ALLOWED_HOSTS"]) == {"127.0.0.1", "localhost", "[::1]", "testserver"}
    assert found["STRIPE_SECRET_KEY"] == ""
