"""What operators see of admission: limits, refusals, leaked holds, and whether counters are right."""

from datetime import timedelta

import pytest
from django.utils import timezone

from billing.cockpit import cockpit
from metering.admission import expire_holds
from metering.models import CountersCheck, QuotaWindow
from metering.quotas import add_increase
from metering.tasks import compare_counters
from tests.metering.admission_world import ask, quota


@pytest.fixture
def limit(acme, acme_key):
    now = timezone.now()
    made = quota(acme, "output_tokens", 100, "day", now=now)
    add_increase(made, made.amount, starts_at=now, ends_at=now + timedelta(days=1), reason="Launch", actor="test")
    ask(acme_key, now=now, output_tokens=75)
    ask(acme_key, now=now, output_tokens=500)
    return made


def gauges():
    return {gauge.label: gauge for gauge in cockpit().usage}


def test_limits_refusals_and_checks_can_be_looked_at(limit, operator, client_for):
    compare_counters()
    client = client_for(operator)

    assert b"100 output_tokens per day" in client.get("/admin/metering/quota/").content
    assert b"Launch" in client.get(f"/admin/metering/quota/{limit.pk}/change/").content
    assert b"quota_exceeded" in client.get("/admin/metering/denial/").content
    assert client.get("/admin/metering/counterscheck/").status_code == 200
    assert client.get("/admin/metering/admissionsettings/").status_code == 200


def test_a_hold_that_nobody_reported_shows_as_leaked_until_its_call_is(limit):
    assert gauges()["Leaked holds"].mood == "good"

    assert expire_holds(timezone.now() + timedelta(hours=1)) == 1

    assert (gauges()["Leaked holds"].value, gauges()["Leaked holds"].mood) == ("1", "warn")


def test_the_nightly_comparison_is_kept_and_a_difference_is_bad(limit):
    assert gauges()["Limits against events"].value == "–"
    compare_counters()
    assert gauges()["Limits against events"].value == "equal"

    QuotaWindow.objects.filter(quota_id=limit.pk).update(used=7)
    compare_counters()

    assert gauges()["Limits against events"].mood == "bad"
    [found] = CountersCheck.objects.first().detail
    assert found["quota"] == limit.public_id
