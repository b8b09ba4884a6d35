"""The limits that come with a plan: in metering while the plan holds, and not a moment longer than until the sweep."""

from datetime import timedelta

import pytest

from billing import catalogue
from billing.models import PlanVersion
from billing.plan_limits import LimitsInvalid, write_due_limits
from billing.resting import end_pause, pause
from billing.subscribing import cancel, change_plan
from metering.models import AdmissionSettings, Quota, SetBy
from tests.billing.billing_builders import LONG_AGO, at, subscribed

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
