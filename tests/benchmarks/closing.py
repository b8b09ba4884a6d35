"""A month's end: how many organisations' bills one process rates, and how many invoices it finalises, per second.

Each organisation has 200 series (5 keys, 10 models, 4 meters) and a plan with a fee and a rate card. Three months are
closed. The first has no invoice before it; the next finds the one before as it was, as most do; before the last one,
late usage of the month before came in for every organisation, so that all of those are rated again.
"""

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from itertools import pairwise

from django.db import connection, transaction
from django.utils import timezone

from accounts.models import Organisation
from accounts.remembering import remembering
from billing import catalogue, rating
from billing.invoicing import close_ended
from billing.models import InvoiceLine, PlanVersion, Subscription
from billing.periods import Period
from billing.price_book import add_price
from billing.rated_usage import RatedUsage, rate_period
from billing.subscribing import subscribe
from config.garbage import spare_what_is_loaded
from metering import aggregation
from metering.models import Meter, Series
from tests.benchmarks import progress
from tests.benchmarks.copies import add_keys, copy_totals
from tests.benchmarks.history import write_events
from tests.benchmarks.processes import cpu_seconds
from tests.benchmarks.world import make_world

PRICED = ("input_tokens", "cache_read_tokens", "output_tokens")
MODELS = tuple(f"model-{number}" for number in range(10))
KEYS = 5
EVENTS_EACH = 1000
LATE_EVENTS_EACH = 10


@dataclass(frozen=True)
class ClosedMonth:
    """CPU in milliseconds per invoice: `rate()` alone; the process that finalises; PostgreSQL's that serves it."""

    month: str
    invoices: int
    series: int
    lines: int
    rating_ms: float
    invoices_per_second: float
    python_ms: float
    postgres_ms: float

    @property
    def per_core(self) -> float:
        """Invoices per second of CPU, wherever it was spent."""
        return 1000 / (self.python_ms + self.postgres_ms)


def close_months(organisations: int) -> list[ClosedMonth]:
    """Worker and beat do meanwhile what they always do, on other processors if there are any."""
    now = timezone.now()
    end = now.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    edges = [end]
    for _ in range(3):
        edges.insert(0, (edges[0] - timedelta(days=1)).replace(day=1))
    months = [Period(*pair) for pair in pairwise(edges)]
    billed = _used_and_subscribed(organisations, _plan(edges[0]), edges, now)
    spare_what_is_loaded()  # as workers do
    closed = [
        _close(name, billed, month, now=month.end + timedelta(days=1))
        for name, month in zip(("first", "next"), months, strict=False)
    ]
    _use_late(billed, months[1], now)
    return [*closed, _close("next, all late", billed, months[2], now=max(now, end + timedelta(days=1)))]


def _close(month: str, billed: list[Subscription], period: Period, *, now: datetime) -> ClosedMonth:
    progress.say(f"closing: {month}")
    rating_ms = _rate_all(billed, period)
    postgres = _backend()
    started, cpu, server = time.perf_counter(), time.process_time(), cpu_seconds(postgres)
    invoices = close_ended(now).invoices
    seconds = time.perf_counter() - started
    assert len(invoices) == len(billed)
    return ClosedMonth(
        month=month,
        invoices=len(invoices),
        series=Series.objects.filter(organisation=billed[0].organisation_id).count(),
        lines=InvoiceLine.objects.filter(invoice__in=invoices[:1]).count(),
        rating_ms=rating_ms,
        invoices_per_second=len(invoices) / seconds,
        python_ms=(time.process_time() - cpu) / len(invoices) * 1e3,
        postgres_ms=(cpu_seconds(postgres) - server) / len(invoices) * 1e3,
    )


def _used_and_subscribed(count: int, version: PlanVersion, edges: list[datetime], now: datetime) -> list[Subscription]:
    """The first organisation's usage is that of events; the others have copies of its totals."""
    progress.say(f"making {count} organisations")
    with transaction.atomic():
        organisations = make_world(count, prefix="Billed", keys_each=0).organisations
        add_keys(organisations, KEYS)
    first, *others = organisations
    for start, end in pairwise(edges):
        write_events(first, EVENTS_EACH, first=start, last=end, received_at=now, models=MODELS)
    _fold(now)
    with ThreadPoolExecutor(1) as copying:
        copied = copying.submit(_copy, first, others)
        subscriptions = _subscribed(organisations, version, edges[0])
        copied.result()
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE")
    return subscriptions


def _copy(first: Organisation, others: list[Organisation]) -> None:
    copy_totals(first, others)
    connection.close()


@transaction.atomic
def _subscribed(organisations: list[Organisation], version: PlanVersion, since: datetime) -> list[Subscription]:
    return [subscribe(one, version, now=since, anchor=since, actor="benchmark") for one in organisations]


def _use_late(subscriptions: list[Subscription], month: Period, now: datetime) -> None:
    last = month.end - timedelta(days=2)
    for subscription in subscriptions:
        write_events(
            subscription.organisation, LATE_EVENTS_EACH, first=last, last=month.end, received_at=now, models=MODELS
        )
    _fold(now)


def _fold(now: datetime) -> None:
    while aggregation.fold_pending(now=now).batches:
        pass


def _backend() -> int:
    """The process id of the part of PostgreSQL that this process talks to."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        return int(cursor.fetchone()[0])


def _rate_all(subscriptions: list[Subscription], period: Period) -> float:
    """Milliseconds of CPU per bill of the pure function, on readings that were read before."""
    with remembering():
        rated = [rate_period(subscription, period) for subscription in subscriptions]
        components = catalogue.components_of(rated[0].version)
    started = time.process_time()
    for usage in rated:
        _rate(usage, components)
    return (time.process_time() - started) / len(rated) * 1e3


def _rate(usage: RatedUsage, components: list[rating.Component]) -> None:
    again = rating.rate(
        usage.readings,
        components=components,
        prices=usage.prices,
        period=usage.period,
        fee_period=None,
        currency=usage.prices.currency,
    )
    assert again.lines == usage.rating.lines


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
