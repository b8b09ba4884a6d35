"""The limits that come with a plan: in metering while the plan holds, and not a moment longer than until the sweep."""

from datetime import timedelta

import pytest
import time_machine

from billing import catalogue
from billing.models import PlanVersion
from billing.plan_limits import LimitsInvalid, write_due_limits
from billing.resting import end_pause, pause
from billing.subscribing import cancel, change_plan
from metering.limits_page import limit_rows
from metering.models import AdmissionSettings, Quota, SetBy
from tests.billing.billing_builders import LONG_AGO, TOKENS, at, price, subscribed, use

pytestmark = pytest.mark.django_db
NOW = at(2026, 11, 22, 18)


def limited(key: str, amount: str, models: tuple[str, ...] = ()) -> PlanVersion:
    version = catalogue.draft_version(catalogue.create_plan(key, name=key.title()), currency="USD")
    catalogue.add_rate_card(version, label="Tokens")
    version.limits = [{"measure": "requests", "amount": amount, "window": "minute"}]
    version.allowed_models = list(models)
    version.save()
    return catalogue.publish_version(version, now=LONG_AGO)


def limits_of(organisation) -> list[tuple[str, str, int]]:
    rows = Quota.objects.for_organisation(organisation).active().filter(set_by=SetBy.PLAN).order_by("pk")
    return [(row.measure, row.window, int(row.amount)) for row in rows]


def test_limits_and_models_hold_from_the_start(globex):
    subscribed(globex, limited("small", "60", ("claude-*",)), anchor=NOW)

    assert limits_of(globex) == [("requests", "minute", 60)]
    assert AdmissionSettings.objects.get(organisation=globex).plan_models == ["claude-*"]


def test_change_now_writes_the_other_plans_limits(globex):
    subscription = subscribed(globex, limited("small", "60", ("claude-*",)), anchor=NOW)

    change_plan(subscription, limited("large", "600"), now=NOW, at_once=True)

    assert limits_of(globex) == [("requests", "minute", 600)]
    assert AdmissionSettings.objects.get(organisation=globex).plan_models == []


def test_change_to_come_is_written_by_the_sweep_when_it_takes_effect(globex):
    subscription = subscribed(globex, limited("small", "60"), anchor=NOW)
    change_plan(subscription, limited("large", "600"), now=NOW)
    takes_effect_at = at(2026, 12, 22, 18)

    assert write_due_limits(takes_effect_at - timedelta(minutes=1)) == 0
    assert write_due_limits(takes_effect_at) == 1
    assert write_due_limits(takes_effect_at) == 0

    assert limits_of(globex) == [("requests", "minute", 600)]


def test_limits_go_with_the_plan(globex):
    subscription = subscribed(globex, limited("small", "60"), anchor=NOW)
    cancel(subscription, now=NOW, at_once=True)

    write_due_limits(NOW + timedelta(minutes=15))

    assert limits_of(globex) == []


def test_limits_of_the_next_subscription_are_left_alone(globex):
    subscription = subscribed(globex, limited("small", "60"), anchor=NOW)
    cancel(subscription, now=NOW, at_once=True)
    later = NOW + timedelta(minutes=15)
    subscribed(globex, limited("large", "600"), anchor=later)

    write_due_limits(later)

    assert limits_of(globex) == [("requests", "minute", 600)]


def test_paused_subscription_admits_no_calls(globex):
    subscription = subscribed(globex, limited("small", "60"), anchor=NOW)

    pause(subscription, now=NOW)
    assert ("requests", "none", 0) in limits_of(globex)

    end_pause(subscription, now=NOW + timedelta(days=1))
    assert limits_of(globex) == [("requests", "minute", 60)]


@pytest.mark.parametrize(
    "limit",
    [
        {"measure": "cleverness", "amount": "1", "window": "minute"},
        {"measure": "requests", "amount": "many", "window": "minute"},
        {"measure": "requests", "amount": "-1", "window": "minute"},
        {"measure": "requests", "amount": "1", "window": "fortnight"},
        {"measure": "meter", "meter": "nonsense", "amount": "1", "window": "minute"},
        {"measure": "spend", "amount": "1", "window": "month"},
    ],
)
def test_limits_that_make_no_sense_are_not_published(limit):
    version = catalogue.draft_version(catalogue.create_plan("odd", name="Odd"), currency="USD")
    catalogue.add_rate_card(version, label="Tokens")
    version.limits = [limit]
    version.save()

    with pytest.raises(LimitsInvalid):
        catalogue.publish_version(version, now=LONG_AGO)


def test_plan_page_says_what_is_limited_and_what_held_before(globex, gus, client_for):
    version = catalogue.draft_version(catalogue.create_plan("wide", name="Wide"), currency="USD")
    catalogue.add_rate_card(version, label="Tokens")
    version.limits = [
        {"measure": "requests", "amount": "1200", "window": "minute"},
        {"measure": "spend", "amount": "50", "window": "billing_period", "currency": "USD"},
        {"measure": "meter", "meter": "input_tokens", "amount": "1000000", "window": "day", "enforcement": "soft"},
    ]
    version.save()
    wide = catalogue.publish_version(version, now=LONG_AGO)
    subscription = subscribed(globex, limited("small", "60"), anchor=at(2026, 11, 1))
    change_plan(subscription, wide, now=at(2026, 11, 15), at_once=True)

    with time_machine.travel(NOW, tick=False):
        page = client_for(gus).get("/o/globex/plan/").content.decode()

    for words in (
        ">15 Nov 2026</time>",
        "1,200 requests per minute",
        "$50.00 of spend per billing period",
        "1,000,000 input tokens per day, then only a warning",
    ):
        assert words in page
    assert page.index(">15 Nov 2026, 00:00<") < page.rindex(">1 Nov 2026, 00:00<")


def test_limit_of_spend_counts_from_a_start_in_the_past(globex):
    """As an operator starts a subscription that already runs."""
    price("input_tokens", "1.00")
    version = catalogue.draft_version(catalogue.create_plan("capped", name="Capped"), currency="USD")
    catalogue.add_rate_card(version, label="Tokens", meters=TOKENS)
    version.limits = [{"measure": "spend", "amount": "50", "window": "billing_period", "currency": "USD"}]
    version.save()
    use(globex, at(2026, 11, 10), input_tokens=20_000_000)

    subscribed(globex, catalogue.publish_version(version, now=LONG_AGO), anchor=at(2026, 11), now=NOW)

    (row,) = limit_rows(globex, NOW)
    assert row.counter.used == 20
