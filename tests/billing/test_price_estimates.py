"""What billing tells admission: upper prices per model and meter, from when to when, and billing windows."""

from datetime import timedelta
from decimal import Decimal

import pytest

from billing import catalogue, rating
from billing.models import EstimatesWritten
from billing.price_book import add_price
from billing.price_estimates import write_due_estimates, write_estimates
from billing.resting import end_pause, pause
from billing.subscribing import cancel, change_plan, withdraw_change
from metering.models import BillingWindow, PriceEstimate
from tests.billing.billing_builders import LONG_AGO, at, meter, payg, price, subscribed
from tests.metering.admission_world import ask, quota

NOW = at(2026, 11, 10, 9)


@pytest.fixture
def prices(db):
    price("input_tokens", "2")
    price("input_tokens", "5", model="gpt-5")
    price("output_tokens", "8")


def in_force(organisation, instant=NOW):
    """(meter, model) -> dollars for a million units."""
    rows = PriceEstimate.objects.filter(organisation=organisation, valid_from__lte=instant).order_by("valid_from")
    prices = {(row.meter_key, row.model): row.unit_price * 1_000_000 for row in rows}
    return {place: amount for place, amount in prices.items() if amount}


def test_a_plan_on_the_price_book_is_quoted_at_its_prices(acme, prices):
    subscribed(acme, payg(), anchor=at(2026, 11, 1), now=NOW)

    assert in_force(acme) == {
        ("input_tokens", ""): 2,
        ("input_tokens", "gpt-5"): 5,
        ("output_tokens", ""): 8,
    }


def test_the_first_prices_hold_from_the_start_of_the_running_period(acme, prices):
    subscribed(acme, payg(), anchor=at(2026, 9, 3), now=NOW)

    assert set(PriceEstimate.objects.values_list("valid_from", flat=True)) == {at(2026, 11, 3, 1)}  # at 2:00 in Berlin


def test_a_call_is_quoted_and_held_at_them(acme, acme_key, prices):
    subscribed(acme, payg(), anchor=at(2026, 11, 1), now=NOW)
    quota(acme, "USD", 1, "billing_period", now=NOW)

    answer = ask(acme_key, now=NOW, model="gpt-5", input_tokens=100_000, output_tokens=10_000)

    assert (answer.quoted, answer.currency) == (Decimal("0.58"), "USD")
    [limit] = answer.limits
    assert (limit.held, limit.resets_at) == (Decimal("0.58"), at(2026, 12, 1))
    assert not ask(acme_key, now=NOW, model="gpt-5", input_tokens=100_000).is_allowed


def test_what_never_had_a_price_is_quoted_nothing_rather_than_zero(acme, acme_key):
    price("input_tokens", "5", model="gpt-5")
    price("output_tokens", "0", model="gpt-5")
    subscribed(acme, payg(), anchor=at(2026, 11, 1), now=NOW)
    quota(acme, "USD", 1, "billing_period", now=NOW)

    assert ask(acme_key, now=NOW, model="gpt-6", input_tokens=1000, output_tokens=1000).quoted is None
    free = ask(acme_key, now=NOW, model="gpt-5", output_tokens=1000)
    assert (free.quoted, free.currency) == (0, "USD")  # a price of zero is one


def test_what_loses_its_price_costs_nothing_from_then_on(acme, acme_key):
    price("input_tokens", "5", model="gpt-5", valid_until=at(2026, 11, 20))
    subscribed(acme, payg(), anchor=at(2026, 11, 1), now=NOW)

    assert in_force(acme, at(2026, 11, 19))["input_tokens", "gpt-5"] == 5
    assert in_force(acme, at(2026, 11, 20)) == {}


@pytest.mark.parametrize("tier", ["priority", "batch"])
def test_whatever_may_show_later_is_taken_at_its_highest(acme, prices, tier):
    add_price(
        meter("input_tokens"),
        model="gpt-5",
        currency="USD",
        amount=Decimal("1" if tier == "batch" else "9"),
        valid_from=LONG_AGO,
        conditions=rating.Conditions(service_tier=tier),
        actor="test",
    )
    subscribed(acme, payg(), anchor=at(2026, 11, 1), now=NOW)

    assert in_force(acme)["input_tokens", "gpt-5"] == (5 if tier == "batch" else 9)


def test_tiers_packages_and_filters(acme, prices):
    version = catalogue.draft_version(catalogue.create_plan("mixed", name="Mixed", is_public=True), currency="USD")
    tiers = [
        {"up_to": "1000000", "unit_price": "3", "flat": "0"},
        {"up_to": None, "unit_price": "1", "flat": "0"},
    ]
    version.components.create(
        position=1, kind="graduated", label="Some", meter=meter("input_tokens"), tiers=tiers, only_models=["gpt-*"]
    )
    version.components.create(
        position=2, kind="per_unit", label="Rest", meter=meter("input_tokens"), unit_price=Decimal(7), scale=1_000_000
    )
    version = catalogue.publish_version(version, now=LONG_AGO)
    subscribed(acme, version, anchor=at(2026, 11, 1), now=NOW)

    # Any model may be one of gpt-*, and those cost up to 3 a million by the tiers' own scale.
    found = in_force(acme)
    assert found["input_tokens", "gpt-5"] == 3
    assert found["input_tokens", ""] == 7


def test_coming_prices_plans_and_ends_are_written_ahead(acme, prices):
    price("input_tokens", "4", valid_from=at(2026, 11, 20))
    subscription = subscribed(acme, payg(), anchor=at(2026, 11, 1), now=NOW)
    assert in_force(acme, at(2026, 11, 19))["input_tokens", ""] == 2
    assert in_force(acme, at(2026, 11, 20))["input_tokens", ""] == 4

    cancel(subscription, now=NOW, actor="test")

    assert in_force(acme, at(2026, 11, 30))["input_tokens", ""] == 4
    assert in_force(acme, at(2026, 12, 1)) == {}


def test_a_change_of_plan_takes_effect_with_it_and_can_be_taken_back(acme, prices):
    dear = catalogue.draft_version(catalogue.create_plan("dear", name="Dear", is_public=True), currency="USD")
    catalogue.add_rate_card(dear, label="Tokens", meters=["input_tokens"], multiplier=Decimal(2))
    dear = catalogue.publish_version(dear, now=LONG_AGO)
    subscription = subscribed(acme, payg(), anchor=at(2026, 11, 1), now=NOW)

    change_plan(subscription, dear, now=NOW, actor="test")
    assert in_force(acme)["input_tokens", "gpt-5"] == 5
    assert in_force(acme, at(2026, 12, 1))["input_tokens", "gpt-5"] == 10

    withdraw_change(subscription, now=NOW, actor="test")
    assert in_force(acme, at(2026, 12, 1))["input_tokens", "gpt-5"] == 5


def test_a_pause_costs_nothing_while_it_lasts(acme, prices):
    subscription = subscribed(acme, payg(), anchor=at(2026, 11, 1), now=NOW)

    pause(subscription, now=NOW + timedelta(minutes=1), actor="test")
    assert in_force(acme, NOW + timedelta(minutes=15)) == {}

    end_pause(subscription, now=NOW + timedelta(hours=2), actor="test")
    assert in_force(acme, NOW + timedelta(hours=2))["input_tokens", ""] == 2


def test_what_was_written_for_the_past_stays(acme, prices):
    subscribed(acme, payg(), anchor=at(2026, 11, 1), now=NOW)
    price("input_tokens", "3", valid_from=at(2026, 11, 5))

    write_estimates(acme, NOW)

    assert in_force(acme, NOW - timedelta(seconds=1))["input_tokens", ""] == 2
    assert in_force(acme)["input_tokens", ""] == 3


def test_writing_again_adds_nothing(acme, prices):
    subscribed(acme, payg(), anchor=at(2026, 11, 1), now=NOW)
    before = list(PriceEstimate.objects.values_list("meter_key", "model", "valid_from", "unit_price").order_by("pk"))

    write_estimates(acme, NOW)
    write_estimates(acme, NOW + timedelta(hours=1))

    after = list(PriceEstimate.objects.values_list("meter_key", "model", "valid_from", "unit_price").order_by("pk"))
    assert after == before


def test_billing_windows_follow_the_schedule(acme, prices):
    subscription = subscribed(acme, payg(), anchor=at(2026, 11, 3), now=NOW)
    windows = BillingWindow.objects.filter(organisation=acme).order_by("starts_at")
    assert [row.starts_at for row in windows] == [at(2026, 11, 3), at(2026, 12, 3), at(2027, 1, 3)]
    assert [row.ends_at for row in windows] == [at(2026, 12, 3), at(2027, 1, 3), at(2027, 2, 3)]

    cancel(subscription, now=NOW, at_once=True, actor="test")

    [row] = windows.all()
    assert (row.starts_at, row.ends_at) == (at(2026, 11, 3), at(2026, 11, 10, 9, 15))


def test_the_sweep_writes_when_the_book_changed_and_once_a_day(acme, globex, prices):
    subscribed(acme, payg(), anchor=at(2026, 11, 1), now=NOW)
    assert write_due_estimates(NOW) == 0

    price("output_tokens", "9", valid_from=at(2026, 11, 2))
    assert write_due_estimates(NOW) == 1
    assert in_force(acme)["output_tokens", ""] == 9
    assert write_due_estimates(NOW) == 0
    assert write_due_estimates(NOW + timedelta(days=1)) == 1

    EstimatesWritten.objects.all().delete()
    assert write_due_estimates(NOW) == 1
