"""Closed periods are rated again only where that may come to something else; where it may not, nobody reads them."""

import random
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from accounts.models import Organisation
from billing.adjustments import adjustments_for, still_adjustable, to_rate_again
from billing.invoicing import close_ended, close_period, running_bill
from billing.models import Invoice, InvoiceLine, Subscription
from billing.price_corrections import NothingToCorrect, correct_prices
from billing.schedules import with_terms
from metering.aggregation import rebuild_days, rebuild_totals
from metering.aggregation.changes import EVER
from metering.billed_usage import merge_changes_before
from metering.models import Aggregation, Meter, MeterRevision
from tests import factories
from tests.billing.billing_builders import at, payg, price, subscribed, use
from tests.metering.usage_world import correction, event, fold_all, send

pytestmark = pytest.mark.django_db

SEPTEMBER, OCTOBER = at(2026, 9), at(2026, 10)
AFTER = [at(2026, 10, 1, 2), at(2026, 11, 1, 2), at(2026, 12, 1, 2)]
NO_TRIGGERS, TRIGGERS = "SET LOCAL session_replication_role = replica", "SET LOCAL session_replication_role = DEFAULT"


@pytest.fixture
def subscription(globex) -> Subscription:
    """September is closed, and events can still come in."""
    price("input_tokens", "2.00", model="gpt-4o")
    made = subscribed(globex, payg(), anchor=SEPTEMBER)
    use(globex, at(2026, 9, 3), input_tokens=1_000_000)
    close_period(made, now=AFTER[0])
    return made


def rated_again(subscription) -> list[str]:
    return [f"{invoice.period.start:%B}" for invoice in to_rate_again(with_terms(subscription))]


def forget_what_was_rated(subscription) -> None:
    """As invoices of before this was kept: their periods are always rated again."""
    with connection.cursor() as cursor:
        cursor.execute(NO_TRIGGERS)
        Invoice.objects.filter(subscription=subscription).update(rated_by={})
        cursor.execute(TRIGGERS)


def test_a_period_in_which_nothing_happened_is_not_read_again(globex, subscription):
    use(globex, at(2026, 10, 3), input_tokens=1_000_000)

    with CaptureQueriesContext(connection) as queries:
        close_period(subscription, now=AFTER[1])

    readings = [query["sql"] for query in queries if "usage_day" in query["sql"] or "usage_interval" in query["sql"]]
    assert len(readings) == 1
    assert "2026-10-01" in readings[0]


def test_late_usage_has_its_period_rated_until_an_invoice_has_taken_it_up(globex, subscription):
    assert rated_again(subscription) == []

    use(globex, at(2026, 9, 30, 23, 59), input_tokens=250_000)
    assert rated_again(subscription) == ["September"]
    assert [line.amount_exact for line in adjustments_for(subscription).lines] == [Decimal("0.5")]

    close_period(subscription, now=AFTER[1])
    assert [f"{one.period.start:%B}" for one in still_adjustable(with_terms(subscription))] == ["September", "October"]
    assert rated_again(subscription) == []


def test_usage_of_the_running_period_has_no_closed_one_rated(globex, subscription):
    use(globex, OCTOBER, input_tokens=1)

    assert rated_again(subscription) == []


def test_a_correction_has_the_period_rated_that_it_corrects(globex, subscription):
    us = globex.public_id
    send(event(us, at(2026, 10, 5), event_id="late", model="gpt-4o", input_tokens=5), now=at(2026, 10, 6))
    send(event(us, at(2026, 9, 5), event_id="early", model="gpt-4o", input_tokens=5), now=at(2026, 10, 6))
    fold_all(at(2026, 10, 6))
    close_period(subscription, now=AFTER[1])
    assert rated_again(subscription) == []

    send(correction(us, "early", at(2026, 11, 3)), now=at(2026, 11, 3))
    assert rated_again(subscription) == []
    fold_all(at(2026, 11, 3))

    # What was sent with it may be of any time up to now.
    assert rated_again(subscription) == ["September", "October"]
    assert [line.quantity for line in adjustments_for(with_terms(subscription)).lines] == [-5]


def test_a_correction_of_prices_has_its_periods_rated(subscription):
    price("input_tokens", "1.00", model="gpt-4o")
    assert rated_again(subscription) == []

    correct_prices(SEPTEMBER, OCTOBER, reason="Agreed", now=at(2026, 10, 8), actor="test")

    assert rated_again(subscription) == ["September"]
    assert sum(line.amount_exact for line in adjustments_for(with_terms(subscription)).lines) == -1
    close_period(subscription, now=AFTER[1])
    assert rated_again(subscription) == []


def test_totals_made_anew_have_the_periods_rated_that_they_are_of(globex, subscription):
    rebuild_totals(globex, OCTOBER, at(2026, 10, 2))
    assert rated_again(subscription) == []

    rebuild_totals(globex, at(2026, 9, 30), at(2026, 10, 2))
    assert rated_again(subscription) == ["September"]


def test_days_made_anew_have_all_periods_rated(globex, subscription):
    rebuild_days(globex)

    assert rated_again(subscription) == ["September"]


def test_another_meter_or_another_of_its_names_has_periods_rated(subscription):
    meter = Meter.objects.create(
        key="pages", name="Pages", event_type="ai.usage", value_field="pages", aggregation=Aggregation.SUM, unit="pages"
    )
    assert rated_again(subscription) == ["September"]
    close_period(subscription, now=AFTER[1])
    assert rated_again(subscription) == []

    tiers = {
        "context_tier": {"fields": ["input_tokens"], "steps": [{"label": "short", "up_to": "9"}, {"label": "long"}]}
    }
    MeterRevision.objects.create(meter=meter, effective_from=at(2026, 12), dimensions=[], tiers=tiers)
    assert rated_again(subscription) == ["September", "October"]


def test_a_change_of_what_held_in_a_closed_period_has_it_rated(subscription):
    """Nobody does this; if somebody did, it would be noticed."""
    subscription.phases.update(plan_version=payg("other"))

    assert rated_again(subscription) == ["September"]


def test_a_period_with_unpriced_usage_is_rated_and_listed_each_time(globex, subscription):
    use(globex, at(2026, 9, 8), "unheard-of", input_tokens=7)
    october = close_period(subscription, now=AFTER[1])
    november = close_period(subscription, now=AFTER[2])

    assert [[row["quantity"] for row in one.evidence["unpriced"]] for one in (october, november)] == [["7"], ["7"]]


def test_invoices_that_do_not_say_what_they_were_rated_by_are_rated_again(subscription):
    forget_what_was_rated(subscription)

    assert rated_again(subscription) == ["September"]
    close_period(subscription, now=AFTER[1])
    assert rated_again(subscription) == []


def test_the_running_bill_looks_only_where_something_changed(globex, subscription):
    use(globex, at(2026, 9, 30), input_tokens=500_000)
    bill = running_bill(subscription, at(2026, 10, 9))

    assert [line.amount_exact for line in bill.lines if line.kind == "adjustment"] == [1]


@dataclass
class Twins:
    """Two organisations that live through the same."""

    organisations: list[Organisation]
    chance: random.Random
    # Ids of events that can be corrected.
    sent: list[str] = field(default_factory=list)

    def use(self, now: datetime, *, days_ago: int = 0) -> None:
        when = max(SEPTEMBER, now - timedelta(days=days_ago, hours=1))
        event_id, model = f"event-{now:%Y%m%d}", self.chance.choice(["gpt-4o", "o9"])
        tokens = self.chance.randrange(1, 5_000_000)
        for one in self.organisations:
            send(event(one.public_id, when, event_id=event_id, model=model, input_tokens=tokens), now=now)
        self.sent.append(event_id)

    def use_late(self, now: datetime) -> None:
        self.use(now, days_ago=self.chance.randrange(1, 34))

    def correct(self, now: datetime) -> None:
        if self.sent:
            event_id = self.sent.pop(self.chance.randrange(len(self.sent)))
            for one in self.organisations:
                send(correction(one.public_id, event_id, now), now=now)

    def rebuild(self, now: datetime) -> None:
        for one in self.organisations:
            rebuild_totals(one, SEPTEMBER, now.replace(hour=0))

    def reprice(self, now: datetime) -> None:
        price("input_tokens", str(self.chance.randrange(1, 9)))
        for one in self.organisations:
            with suppress(NothingToCorrect):
                correct_prices(SEPTEMBER, now, reason="Agreed", now=now, organisation=one, actor="test")


def test_changes_that_were_merged_make_the_same_invoice(globex, subscription):
    use(globex, at(2026, 9, 2), input_tokens=1)
    use(globex, at(2026, 9, 30), input_tokens=250_000)
    merge_changes_before(EVER[1])
    assert rated_again(subscription) == ["September"]

    october = close_period(subscription, now=AFTER[1])
    merge_changes_before(EVER[1])

    assert [line.amount_exact for line in october.lines.filter(kind="adjustment")] == [Decimal("0.500002")]
    assert rated_again(subscription) == []


@pytest.mark.parametrize(("seed", "is_merging"), [*((seed, False) for seed in range(4)), (4, True), (5, True)])
def test_whatever_happens_invoices_are_those_of_rating_everything_again(gus, seed, is_merging):
    """Of one of two organisations nothing is known of what was rated before; changes are kept one by one or merged."""
    price("input_tokens", "2.00")
    version = payg()
    twins = Twins([factories.organisation(f"Twin {name}", gus) for name in "AB"], random.Random(seed))
    first, second = (subscribed(one, version, anchor=SEPTEMBER) for one in twins.organisations)

    for day in range(1, 100, 4):
        now = SEPTEMBER + timedelta(days=day, hours=3)
        act = twins.chance.choice([twins.use, twins.use, twins.use_late, twins.use_late, twins.correct, twins.rebuild])
        act(now)
        if day % 32 == 29:
            twins.reprice(now)
        fold_all(now)
        forget_what_was_rated(second)
        if is_merging:
            merge_changes_before(EVER[1])
        close_ended(now)

    assert lines_of(first) == lines_of(second)
    assert {kind for _, kind, *_ in lines_of(first)} >= {"usage", "adjustment"}


def lines_of(subscription) -> list[tuple[Any, ...]]:
    rows = InvoiceLine.objects.filter(invoice__subscription=subscription).order_by("invoice_id", "position")
    return list(rows.values_list("invoice__period_start", "kind", "key", "amount_exact", "quantity", "amount_minor"))
