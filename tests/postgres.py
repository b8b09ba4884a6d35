"""Pytest plugin: the tests' own embedded PostgreSQL, unless DATABASE_URL names another server.

A plugin rather than a conftest, since settings are read before any conftest is. The server stays up between runs,
which makes the next one start at once; it belongs to this checkout and holds nothing else. Static files keep their
own names in tests, so that none has to be collected first.
"""

import os
from pathlib import Path

import pytest

DATA = Path(__file__).resolve().parent.parent / ".data" / "test"


@pytest.hookimpl(tryfirst=True)
def pytest_load_initial_conftests() -> None:
    os.environ["KILOTOKEN_DATA"] = str(DATA)
    if "DATABASE_URL" in os.environ:
        return
    from config import embedded

    os.environ["DATABASE_URL"] = embedded.start_postgres(DATA, unsafe=True)


@pytest.hookimpl(tryfirst=True)
def pytest_configure() -> None:
    from django.conf import settings

    settings.STORAGES["staticfiles"] = {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"}
    (DATA / "staticfiles").mkdir(parents=True, exist_ok=True)  # WhiteNoise looks for it
