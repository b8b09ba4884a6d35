"""A sweep closes periods of many organisations in one transaction: the same invoices, for few queries."""

from decimal import Decimal

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from billing.invoicing import TOGETHER, close_ended, close_period
from billing.models import Invoice, Subscription
from billing.subscribing import cancel
from tests import factories
from tests.billing.billing_builders import at, payg, price, subscribed, use

pytestmark = pytest.mark.django_db
OCTOBER = at(2026, 10)
NOVEMBER = at(2026, 11)
AFTER_OCTOBER = at(2026, 11, 1, 2)
AFTER_NOVEMBER = at(2026, 12, 1, 2)


@pytest.fixture
def version():
    price("input_tokens", "2.50")
    return payg()


def with_usage(gus, version, count: int, prefix: str) -> list[Subscription]:
    organisations = [factories.organisation(f"{prefix} {number}", gus) for number in range(count)]
    for number, organisation in enumerate(organisations, start=1):
        factories.api_key(organisation, "key")
        use(organisation, at(2026, 10, 5), input_tokens=number * 1_000_000)
    return [subscribed(organisation, version, anchor=OCTOBER) for organisation in organisations]


def queries_of_a_sweep(gus, version, count: int, prefix: str) -> int:
    with_usage(gus, version, count, prefix)
    with CaptureQueriesContext(connection) as queries:
        close_ended(AFTER_OCTOBER)
    Subscription.objects.update(ends_at=NOVEMBER)  # out of the next sweep's way
    return len(queries)


def test_one_more_organisation_costs_no_more_queries(gus, version):
    queries_of_a_sweep(gus, version, 1, "First of the year")

    few, many = queries_of_a_sweep(gus, version, 2, "Few"), queries_of_a_sweep(gus, version, 12, "Many")

    assert many == few


def test_together_or_alone_the_invoices_are_the_same(gus, version):
    together = with_usage(gus, version, TOGETHER + 2, "Org")
    close_ended(AFTER_OCTOBER)
    alone = with_usage(gus, version, 1, "Alone")
    close_period(alone[0], now=AFTER_OCTOBER)

    invoices = [Invoice.objects.get(subscription=one) for one in [*together, *alone]]

    assert [invoice.total_exact for invoice in invoices[:-1]] == [
        Decimal("2.50") * number for number in range(1, TOGETHER + 3)
    ]
    assert [invoice.number for invoice in invoices] == [f"KT-2026-{n:05d}" for n in range(1, TOGETHER + 4)]
    first, last = (list(invoice.lines.values()) for invoice in (invoices[0], invoices[-1]))
    for line in [*first, *last]:
        del line["id"], line["invoice_id"]
    assert first == last
    for name in ("readings", "prices"):
        assert invoices[0].evidence["periods"][0][name] == invoices[-1].evidence["periods"][0][name]


def test_a_sweep_keeps_no_evidence_in_memory(gus, version):
    with_usage(gus, version, 2, "Org")

    first, _ = close_ended(AFTER_OCTOBER).invoices

    assert first.get_deferred_fields() == {"evidence"}
    assert first.evidence == Invoice.objects.get(pk=first.pk).evidence


def test_what_one_invoice_carries_over_is_taken_up_by_one_other(globex, version):
    old = subscribed(globex, version, anchor=OCTOBER)
    use(globex, at(2026, 10, 3), input_tokens=1)  # 0.0000025
    cancel(old, now=at(2026, 10, 20))
    new = subscribed(globex, payg("other"), anchor=NOVEMBER)
    use(globex, at(2026, 11, 3), input_tokens=400_000)

    invoices = close_ended(AFTER_NOVEMBER).invoices

    assert [(invoice.subscription_id, invoice.total_exact) for invoice in invoices] == [
        (old.pk, 0),
        (new.pk, Decimal("1.0000025")),
    ]
