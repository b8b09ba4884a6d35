"""Many at once: one invoice per period, and numbers without a gap."""

from concurrent.futures import ThreadPoolExecutor
from threading import Event

import pytest
from django.db import connection, transaction

from billing import invoicing
from billing.invoicing import close_ended, close_period
from billing.models import Invoice, StripeInvoice
from billing.schedules import earliest_open_period
from tests import factories
from tests.accounts.threads import at_once
from tests.billing.billing_builders import at, payg, price, subscribed, use

pytestmark = pytest.mark.django_db(transaction=True)
NOW = at(2026, 11, 2)


def in_parallel(work, items, workers: int = 8):
    def alone(item):
        try:
            return work(item)
        finally:
            connection.close()

    with ThreadPoolExecutor(workers) as pool:
        return list(pool.map(alone, items))


def test_twenty_closers_make_one_invoice(globex):
    price("input_tokens", "1.00")
    subscription = subscribed(globex, payg(), anchor=at(2026, 10))
    use(globex, at(2026, 10, 5), input_tokens=3_000_000)
    october = earliest_open_period(subscription)

    numbers = in_parallel(lambda _: close_period(subscription, period=october, now=NOW).number, range(20), workers=20)

    assert set(numbers) == {"KT-2026-00001"}
    assert Invoice.objects.count() == StripeInvoice.objects.count() == 1


def test_sweeps_that_run_at_once_share_the_work(gus, monkeypatch):
    monkeypatch.setattr(invoicing, "TOGETHER", 2)
    version = payg()
    for number in range(16):
        subscribed(factories.organisation(f"Org {number}", gus), version, anchor=at(2026, 10))

    sweeps = in_parallel(lambda _: close_ended(NOW), range(4))

    numbers = [invoice.number for sweep in sweeps for invoice in sweep.invoices]
    assert sorted(numbers) == [f"KT-2026-{number:05d}" for number in range(1, 17)]
    assert not any(sweep.failed or sweep.waiting for sweep in sweeps)


def test_a_sweep_passes_over_what_another_is_at_and_the_next_finds_it(globex):
    subscription = subscribed(globex, payg(), anchor=at(2026, 10))
    running, passed = Event(), Event()

    def hold() -> None:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute(invoicing.CLAIM, [subscription.pk])
            running.set()
            passed.wait(10)

    def sweep() -> int:
        running.wait(10)
        closed = close_ended(NOW)
        passed.set()
        return len(closed.invoices)

    assert at_once(hold, sweep) == [None, 0]
    assert len(close_ended(NOW).invoices) == 1


def test_numbers_have_no_gap_when_some_fail(gus):
    version = payg()
    subscriptions = [
        subscribed(factories.organisation(f"Org {number}", gus), version, anchor=at(2026, 10)) for number in range(12)
    ]

    def close(place: int) -> None:
        try:
            with transaction.atomic():
                close_period(subscriptions[place], now=NOW)
                if place % 3 == 0:
                    raise ConnectionError("the machine died before the commit")
        except ConnectionError:
            pass

    in_parallel(close, range(12))

    numbers = sorted(Invoice.objects.values_list("number", flat=True))
    assert numbers == [f"KT-2026-{number:05d}" for number in range(1, 9)]


def test_each_year_has_its_own_numbers(globex):
    subscription = subscribed(globex, payg(), anchor=at(2026, 11))

    november = close_period(subscription, now=at(2026, 12, 31, 23))
    december = close_period(subscription, now=at(2027, 1, 1, 2))

    assert [november.number, december.number] == ["KT-2026-00001", "KT-2027-00001"]
