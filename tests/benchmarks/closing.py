"""A month's end: how many organisations' bills one process rates and finalises per second."""

import time
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal

from django.utils import timezone

from billing import catalogue
from billing.invoicing import close_ended
from billing.models import PlanVersion
from billing.price_book import add_price
from billing.subscribing import subscribe
from metering import aggregation
from metering.models import Meter
from tests.benchmarks.bodies import MODELS
from tests.benchmarks.history import write_events
from tests.benchmarks.installation import Installation
from tests.benchmarks.processes import cpu_seconds
from tests.benchmarks.world import make_world

PRICED = ("input_tokens", "cache_read_tokens", "cache_write_tokens", "output_tokens")
EVENTS_EACH = 1000


@dataclass(frozen=True)
class ClosedMonth:
    """CPU in milliseconds per invoice: this process that rates and finalises, and PostgreSQL."""

    invoices: int
    lines: int
    invoices_per_second: float
    python_ms: float
    postgres_ms: float

    @property
    def per_core(self) -> float:
        """Invoices per second of CPU, wherever it was spent."""
        return 1000 / (self.python_ms + self.postgres_ms)


def close_month(installation: Installation, organisations: int) -> ClosedMonth:
    """Each has a thousand calls of six models in the month that ended, on a plan with a fee and a rate card."""
    now = timezone.now()
    end = now.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    start = (end - timedelta(days=1)).replace(day=1)
    version = _plan(start)
    for organisation in make_world(organisations, prefix="Billed").organisations:
        subscribe(organisation, version, now=start, anchor=start, actor="benchmark")
        write_events(organisation, EVENTS_EACH, first=start, last=end, received_at=now)
    while aggregation.fold_pending(now=now).batches:
        pass
    started, cpu, postgres = time.perf_counter(), time.process_time(), cpu_seconds(installation.postgres)
    invoices = close_ended(max(now, end + timedelta(days=1))).invoices
    seconds = time.perf_counter() - started
    assert len(invoices) == organisations
    return ClosedMonth(
        invoices=organisations,
        lines=sum(invoice.lines.count() for invoice in invoices),
        invoices_per_second=organisations / seconds,
        python_ms=(time.process_time() - cpu) / organisations * 1e3,
        postgres_ms=(cpu_seconds(installation.postgres) - postgres) / organisations * 1e3,
    )


def _plan(valid_from: datetime) -> PlanVersion:
    for meter in Meter.objects.filter(key__in=PRICED):
        for model in MODELS:
            add_price(
                meter,
                model=model,
                currency="USD",
                amount=Decimal("1.25"),
                valid_from=valid_from,
                valid_until=None,
                actor="benchmark",
            )
    version = catalogue.draft_version(
        catalogue.create_plan("benchmark", name="Benchmark", is_public=True), currency="USD"
    )
    catalogue.add_flat_fee(version, label="Base fee", amount=Decimal(49), in_advance=True)
    catalogue.add_rate_card(version, label="Tokens", meters=list(PRICED))
    return catalogue.publish_version(version, now=valid_from)
