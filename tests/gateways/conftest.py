"""What runs beside gateways is no part of our apps: it is found where its users would have installed it."""

import os
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from django.db import connections

from accounts.models import Organisation
from metering import catalogue, quarter_hours
from metering.aggregation import fold_pending
from metering.models import PriceEstimate
from metering.quotas import QuotaSpec, define_quota
from metering.reports import usage
from tests.clients.fake_openai import FakeOpenAI
from tests.gateways import litellm_proxy, web_process
from tests.gateways.web_process import WebProcess

GATEWAYS = Path(__file__).parents[2] / "metering" / "gateways"
for folder in ("litellm", "streaming_server"):
    sys.path.append(str(GATEWAYS / folder))

# What is not on every machine. Named by REQUIRE_…=1 it is collected all the same, and fails where it is missing.
_IS_WANTED = {
    "test_litellm_plugin.py": litellm_proxy.is_wanted(),
    "test_nginx.py": bool(web_process.nginx() or os.environ.get("REQUIRE_NGINX") == "1"),
    "test_envoy.py": bool(os.environ.get("ENVOY_COMMAND")),
}
collect_ignore = [name for name, is_wanted in _IS_WANTED.items() if not is_wanted]


@pytest.fixture(autouse=True)
def _fresh_catalogue() -> None:
    catalogue.forget()


@pytest.fixture
def kilotoken(transactional_db: None) -> Iterator[WebProcess]:
    """Kilotoken as its gateways see it: an address."""
    with WebProcess("*") as process:
        yield process
    connections.close_all()


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


@pytest.fixture
def limited() -> Callable[..., None]:
    """limited(organisation, amount, …): a limit set by the operator; of requests a day if nothing else is said."""

    def limit(organisation: Organisation, amount: str | int, **fields: Any) -> None:
        wanted = {"measure": "requests", "window": "day"} | fields
        spec = QuotaSpec(amount=Decimal(amount), **wanted)
        define_quota(organisation, spec, set_by="operator", now=datetime.now(UTC))

    return limit


@pytest.fixture
def priced() -> Callable[..., None]:
    """priced(organisation): every token costs a tenth of a cent, as billing would have written it."""

    def write(organisation: Organisation) -> None:
        for meter in ("input_tokens", "output_tokens", "cache_read_tokens"):
            PriceEstimate.objects.create(
                organisation=organisation,
                meter_key=meter,
                currency="USD",
                unit_price=Decimal("0.001"),
                valid_from=datetime.now(UTC) - timedelta(days=1),
            )

    return write
