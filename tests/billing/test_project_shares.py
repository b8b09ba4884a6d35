"""A bill by project: the same lines, shared out, adding up to the last minor unit."""

import csv
from decimal import Decimal
from io import StringIO

import pytest
import time_machine
from hypothesis import given
from hypothesis import strategies as st

from billing.invoicing import close_period, running_bill
from billing.models import Subscription
from billing.money import share_out
from billing.project_shares import by_project
from tests import factories
from tests.billing.billing_builders import at, price, subscribed, team
from tests.metering.usage_world import event, fold_all, send

NOW = at(2026, 11, 22, 18)


@given(total=st.integers(-1_000_000, 1_000_000), weights=st.lists(st.integers(1, 10**12), min_size=1, max_size=60))
def test_shares_add_up_and_none_is_a_unit_off(total: int, weights: list[int]) -> None:
    shares = share_out(total, [Decimal(weight) for weight in weights])
    assert sum(shares) == total
    assert all(
        abs(share * sum(weights) - total * weight) < sum(weights) for share, weight in zip(shares, weights, strict=True)
    )


@pytest.fixture
def subscription(globex) -> Subscription:
    """$10 in advance, and a third of $1 for each of three projects."""
    price("input_tokens", "1.00")
    subscription = subscribed(globex, team(fee="10"), anchor=at(2026, 11))
    for name in ("Search", "Chat", "Agents"):
        key = factories.api_key(globex, name, project=factories.project(globex, name))
        when = at(2026, 11, 5)
        send(event(key.api_key.public_id, when, model="gpt-4o", input_tokens=333_333), now=when)
    fold_all(at(2026, 11, 5))
    return subscription


def test_projects_and_what_is_of_none_add_up_to_the_bill(globex, subscription):
    bill = running_bill(subscription, NOW)

    shares = by_project(globex, bill.lines)

    assert sorted(share.total_minor for share in shares) == [33, 33, 34, 2000]
    assert sum(share.total_minor for share in shares) == bill.total_minor
    assert [share.name for share in shares] == ["Agents", "Chat", "Search", ""]
    assert {part.quantity for share in shares[:3] for part in share.lines} == {Decimal(333_333)}


def test_invoice_by_project_as_page_and_file(client_for, gus, globex, subscription):
    invoice = close_period(subscription, now=at(2026, 12, 2))
    client = client_for(gus)
    address = f"/o/globex/invoices/{invoice.number}/projects/"

    page = client.get(address).content.decode()
    rows = list(csv.DictReader(StringIO(client.get(address, {"format": "csv"}).content.decode())))

    assert "Agents" in page
    assert sum(Decimal(row["amount"]) for row in rows) == Decimal(invoice.total_minor) / 100
    assert {row["project"] for row in rows} == {"Agents", "Chat", "Search", ""}


def test_running_bill_by_project(client_for, gus, globex, subscription):
    with time_machine.travel(NOW, tick=False):
        assert "Of no project" in client_for(gus).get("/o/globex/bill/projects/").content.decode()


def test_without_a_plan_there_is_nothing_to_share(client_for, olivia, acme):
    assert client_for(olivia).get("/o/acme/bill/projects/").status_code == 404
