"""Pytest plugin: the tests' own embedded PostgreSQL, unless DATABASE_URL names another server.

A plugin rather than a conftest, since settings are read before any conftest is. The server stays up between runs,
which makes the next one start at once; it belongs to this checkout and holds nothing else.
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
