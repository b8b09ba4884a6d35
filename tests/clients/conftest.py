"""The real clients of others against a running server: what they sent is what the totals say.

Each file is collected where the packages it drives are installed; LiteLLM's proxy, which is heavy and pins packages of
its own, runs from the environment whose `litellm` command LITELLM_COMMAND names.
"""

import os
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from importlib.util import find_spec

import pytest

from accounts.models import Organisation
from metering import catalogue, quarter_hours
from metering.aggregation import fold_pending
from metering.reports import usage
from tests.clients.fake_openai import FakeOpenAI


def _is_installed(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:
        return False


_NEEDED = {
    "test_cloudevents.py": ["cloudevents.http"],
    "test_openapi_fuzz.py": ["schemathesis"],
    "test_openmeter.py": ["openmeter"],
    "test_opentelemetry.py": [
        "openai",
        "opentelemetry.exporter.otlp.proto.http",
        "opentelemetry.instrumentation.genai.openai",
        "openinference.instrumentation.openai",
    ],
}
collect_ignore = [name for name, modules in _NEEDED.items() if not all(map(_is_installed, modules))]
if not os.environ.get("LITELLM_COMMAND"):
    collect_ignore.append("test_litellm.py")


@pytest.fixture(autouse=True)
def _fresh_catalogue() -> None:
    catalogue.forget()


@pytest.fixture
def upstream() -> Iterator[FakeOpenAI]:
    """An OpenAI that answers from this machine, and whose usage is known."""
    with FakeOpenAI() as server:
        yield server


@pytest.fixture
def totals() -> Callable[[Organisation], dict[str, Decimal]]:
    """Folds what is pending and sums an organisation's usage of the last hour by meter."""

    def read(organisation: Organisation) -> dict[str, Decimal]:
        now = datetime.now(UTC)
        while fold_pending(now=now).batches:
            pass
        start, end = quarter_hours.floor(now - timedelta(hours=1)), quarter_hours.ceiling(now + timedelta(minutes=15))
        report = usage(organisation, start=start, end=end, granularity="total", group_by=("meter",))
        return {row.group[0]: row.value for row in report.rows}

    return read
