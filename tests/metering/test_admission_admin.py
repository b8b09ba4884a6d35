"""What operators see of admission: limits, refusals, leaked holds, and whether counters are right."""

from datetime import timedelta
from decimal import Decimal

import pytest
from django.urls import reverse
from django.utils import timezone

from accounts.models import AuditEntry
from billing.cockpit import cockpit
from metering.admission import expire_holds, release, settle
from metering.models import CountersCheck, Hold, Quota, QuotaWindow
from metering.quotas import add_increase
from metering.tasks import compare_counters
from tests import factories
from tests.metering.admission_world import ask, estimate, quota
from tests.metering.usage_world import event, fold_all, send


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


@pytest.fixture
def leaks(acme, acme_key, globex):
    """Three calls of acme, of which one was reported late and one released before that, and one of globex."""
    now = timezone.now() - timedelta(hours=1)
    estimate(acme, "output_tokens", "0.002", valid_from=now - timedelta(days=1))
    for key, call_ids in ((acme_key, ("lost", "late", "withdrawn", "fine")), (factories.api_key(globex), ("theirs",))):
        for call_id in call_ids:
            ask(key, call_id=call_id, now=now, output_tokens=1500, end_user="ada")
    holds = {hold.call_id: hold for hold in Hold.objects.all()}
    release(holds["withdrawn"], now=now)
    settle(holds["fine"], {"output_tokens": Decimal(1)}, now=now)
    expire_holds(timezone.now())
    send(event(acme_key.api_key.public_id, now, call_id="late", output_tokens=9), now=timezone.now())
    fold_all(timezone.now())
    return {call_id: hold.id for call_id, hold in holds.items()}


def test_leaked_holds_are_listed_with_what_came_of_them(leaks, acme_key, operator, client_for):
    client = client_for(operator)

    def listed(**query):
        page = client.get("/admin/metering/quota/leaked-holds/", query)
        assert page.status_code == 200
        return {call_id for call_id, hold in leaks.items() if hold in page.content.decode()}

    assert listed() == {"lost", "late", "theirs"}
    assert listed(report="none") == {"lost", "theirs"}
    assert listed(report="late") == {"late"}
    assert listed(organisation="globex") == {"theirs"}
    assert listed(key=acme_key.api_key.public_id, report="none") == {"lost"}
    assert listed(organisation="nobody") == set()
    query = {"organisation": "acme", "report": "none"}
    page = client.get("/admin/metering/quota/leaked-holds/", query).content.decode()
    assert "1,500 output_tokens" in page
    assert "at most 3 USD" in page
    assert "for ada" in page
    assert acme_key.api_key.name in page


def test_the_cockpit_leads_to_the_list(leaks, operator, client_for):
    gauge = gauges()["Leaked holds"]
    assert gauge.value == "2"
    page = client_for(operator).get("/admin/").content.decode()
    assert f"{reverse('admin:' + gauge.target)}?report=none" in page


def test_leaked_holds_come_page_by_page_with_as_many_queries(
    leaks, operator, client_for, monkeypatch, django_assert_max_num_queries
):
    monkeypatch.setattr("metering.admin.leaked_holds.PER_PAGE", 2)
    client = client_for(operator)
    with django_assert_max_num_queries(14):
        first = client.get("/admin/metering/quota/leaked-holds/", {"organisation": ""}).content.decode()
    assert "?organisation=&amp;page=2" in first
    second = client.get("/admin/metering/quota/leaked-holds/", {"page": 2}).content.decode()
    assert sum(hold in first for hold in leaks.values()) == 2
    assert sum(hold in second for hold in leaks.values()) == 1


def test_only_who_may_see_limits_sees_leaked_holds(leaks, olivia, client_for):
    assert client_for(olivia).get("/admin/metering/quota/leaked-holds/").status_code == 302


def test_the_nightly_comparison_is_kept_and_a_difference_is_bad(limit):
    assert gauges()["Limits against events"].value == "–"
    compare_counters()
    assert gauges()["Limits against events"].value == "equal"

    QuotaWindow.objects.filter(quota_id=limit.pk).update(used=7)
    compare_counters()

    assert gauges()["Limits against events"].mood == "bad"
    [found] = CountersCheck.objects.first().detail
    assert found["quota"] == limit.public_id


def test_operators_make_counters_right_after_a_look(limit, acme, operator, client_for, vera):
    client, page = client_for(operator), "/admin/metering/counterscheck/recompute/"
    assert b"There is nothing to do" in client.get(page).content
    QuotaWindow.objects.filter(quota_id=limit.pk).update(used=7)
    compare_counters()

    shown = client.get(page).content.decode()
    assert "1 counter wrong at this moment" in shown
    assert limit.public_id in shown
    assert QuotaWindow.objects.get(quota_id=limit.pk).used == 7
    assert client.post(page).status_code == 302

    assert QuotaWindow.objects.get(quota_id=limit.pk).used == 0
    assert AuditEntry.objects.get(action="counters.recomputed").actor == operator
    assert b"Nothing is wrong any more" in client.get(page).content
    assert client_for(vera).post(page).status_code == 302


NEW_LIMIT = {
    "scope": "organisation",
    "place": "",
    "end_user": "",
    "measure": "requests",
    "meter": "",
    "currency": "",
    "window": "day",
    "amount": "7",
    "enforcement": "hard",
    "model_patterns": "m-*",
    "thresholds": "50,100",
}
ADD = "/admin/metering/quota/add/"


@pytest.mark.parametrize("scope", ["organisation", "project", "api_key", "end_user"])
def test_operators_limit_whatever_a_limit_can_be_of(acme, acme_key, operator, client_for, scope):
    key = acme_key.api_key
    place = {"project": key.project.public_id, "api_key": key.public_id}.get(scope, "")
    end_user = "ada" if scope == "end_user" else ""
    client = client_for(operator)
    assert 'value="80,100"' in client.get(ADD).content.decode()
    answer = client.post(
        ADD, NEW_LIMIT | {"organisation": acme.pk, "scope": scope, "place": place, "end_user": end_user}
    )
    assert answer.status_code == 302, answer.content.decode()
    made = Quota.objects.get()
    assert (made.scope, made.set_by, made.thresholds, made.model_patterns) == (scope, "operator", [50, 100], ["m-*"])
    of = (made.project_id, made.api_key_id, made.end_user)
    assert of == (key.project_id if scope == "project" else None, key.pk if scope == "api_key" else None, end_user)
    assert client.get(f"/admin/metering/quota/{made.pk}/change/").status_code == 200


def test_a_limit_is_of_the_organisations_own(acme, globex, operator, client_for):
    theirs = factories.api_key(globex).api_key
    client = client_for(operator)
    for wrong in (
        {"scope": "api_key", "place": theirs.public_id},
        {"scope": "project"},
        {"place": theirs.public_id},
        {"end_user": "ada"},
    ):
        page = client.post(ADD, NEW_LIMIT | {"organisation": acme.pk} | wrong).content.decode()
        assert "and only there" in page
    assert not Quota.objects.exists()


def test_operators_change_a_limit_after_being_asked(acme, limit, operator, client_for):
    client, address = client_for(operator), f"/admin/metering/quota/{limit.pk}/terms/"
    assert 'value="100"' in client.get(address).content.decode()
    limit.refresh_from_db()
    assert limit.amount == 100
    client.post(address, {"amount": "250", "enforcement": "soft", "thresholds": "90"})
    limit.refresh_from_db()
    assert (limit.amount, limit.enforcement, limit.thresholds) == (250, "soft", [90])
    assert AuditEntry.objects.filter(action="quota.changed", actor=operator).count() == 1


def test_limits_of_plans_are_changed_with_the_plan(acme, operator, client_for):
    of_plan = quota(acme, "requests", 5, "day", now=timezone.now(), set_by="plan")
    answer = client_for(operator).post(f"/admin/metering/quota/{of_plan.pk}/terms/", {"amount": "9"}, follow=True)
    assert "It comes with the plan or with credit" in answer.content.decode()
    of_plan.refresh_from_db()
    assert of_plan.amount == 5
