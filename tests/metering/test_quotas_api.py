"""/v1/quotas: the operator sets limits, a customer only its own, and the next call feels it."""

import json
from datetime import timedelta
from decimal import Decimal

import pytest
from django.core.management import call_command
from django.utils import timezone

from metering.models import PriceEstimate, Quota, QuotaWindow
from tests.metering.admission_world import ask, quota

ADDRESS = "/v1/quotas"
LIMIT = {"measure": "meter", "meter": "output_tokens", "window": "day", "amount": "100"}


def test_an_operator_sets_changes_and_lifts_a_limit(acme, acme_key, api, service_token):
    client = api(service_token.secret)
    body = LIMIT | {"scope": "api_key", "api_key": acme_key.api_key.public_id, "models": ["m-*"]}
    made = client.post(f"{ADDRESS}?organisation=acme", body)
    assert made.status_code == 201, made.content
    limit = made.json()
    assert (limit["set_by"], limit["api_key"], limit["amount"]) == ("operator", acme_key.api_key.public_id, "100")
    assert not ask(acme_key, now=timezone.now(), output_tokens=101).is_allowed

    changed = client.patch(f"{ADDRESS}/{limit['id']}?organisation=acme", {"amount": "200"}, "application/json")
    assert changed.json()["amount_now"] == "200"
    assert ask(acme_key, now=timezone.now(), output_tokens=101).is_allowed
    [listed] = client.get(f"{ADDRESS}?organisation=acme").json()["quotas"]
    assert listed["counters"] == [{"end_user": "", "used": "0", "held": "101", "remaining": "99"}]

    assert client.delete(f"{ADDRESS}/{limit['id']}?organisation=acme").status_code == 204
    assert client.get(f"{ADDRESS}?organisation=acme").json() == {"quotas": []}
    assert ask(acme_key, now=timezone.now(), output_tokens=10_000).is_allowed


def test_a_customer_sets_limits_of_its_own_and_leaves_the_operators_alone(acme, api, acme_access_token):
    client = api(acme_access_token.secret)
    theirs = quota(acme, "requests", 5, "minute", now=timezone.now())

    own = client.post(ADDRESS, LIMIT).json()

    assert own["set_by"] == "customer"
    for answer in (
        client.patch(f"{ADDRESS}/{theirs.public_id}", {"amount": "50"}, "application/json"),
        client.delete(f"{ADDRESS}/{theirs.public_id}"),
    ):
        assert (answer.status_code, answer.json()["code"]) == (403, "quota_not_yours")
    theirs.refresh_from_db()
    assert (theirs.amount, theirs.archived_at) == (5, None)
    assert client.delete(f"{ADDRESS}/{own['id']}").status_code == 204


def test_limits_of_another_organisation_do_not_exist(acme, globex, api, acme_access_token):
    theirs = quota(globex, "requests", 5, "minute", now=timezone.now())
    client = api(acme_access_token.secret)

    assert client.get(f"{ADDRESS}?organisation=globex").status_code == 404
    assert client.get(ADDRESS).json() == {"quotas": []}
    assert client.patch(f"{ADDRESS}/{theirs.public_id}", {"amount": "9"}, "application/json").status_code == 404
    assert client.delete(f"{ADDRESS}/{theirs.public_id}").status_code == 404


def test_spend_is_limited_in_the_currency_in_which_it_is_counted(acme, globex, api, acme_access_token, service_token):
    told = {"meter_key": "output_tokens", "unit_price": Decimal("0.01"), "valid_from": timezone.now()}
    PriceEstimate.objects.create(organisation=acme, currency="USD", **told)
    spend = {"measure": "spend", "window": "day", "amount": "5"}
    own, operators = api(acme_access_token.secret), api(service_token.secret)
    assert own.post(ADDRESS, spend | {"currency": "usd"}).status_code == 201
    for answer in (
        own.post(ADDRESS, spend | {"currency": "JPY"}),
        operators.post(f"{ADDRESS}?organisation=acme", spend | {"currency": "EUR"}),
    ):
        assert (answer.status_code, answer.json()["detail"]) == (422, "Spend is counted in USD, as on the bill.")
    assert operators.post(f"{ADDRESS}?organisation=globex", spend | {"currency": "1$€"}).status_code == 422


def test_what_cannot_be_limited_is_refused_with_a_sentence(acme, globex, api, acme_access_token):
    client = api(acme_access_token.secret)
    wrong = (
        {"meter": "no_such_meter"},
        {"scope": "project", "project": "proj_nobody"},
        {"scope": "api_key"},
        {"measure": "spend", "meter": ""},
        {"measure": "concurrent", "meter": ""},
        {"thresholds": [0]},
    )
    for change in wrong:
        answer = client.post(ADDRESS, LIMIT | change)
        assert answer.status_code == 422, (change, answer.content)
        assert answer.json()["detail"]
    for change in ({"amount": "-1"}, {"window": "fortnight"}, {"amount": "NaN"}):
        assert client.post(ADDRESS, LIMIT | change).status_code == 400
    assert not Quota.objects.exists()


def test_the_command_finds_a_counter_that_was_changed_behind_our_back(acme, acme_key, capsys):
    now = timezone.now()
    limit = quota(acme, "output_tokens", 500, "day", now=now)
    ask(acme_key, now=now, output_tokens=75)
    call_command("compare_counters", json=True)
    assert json.loads(capsys.readouterr().out)["differences"] == 0

    QuotaWindow.objects.filter(quota_id=limit.pk).update(held=1)

    with pytest.raises(SystemExit):
        call_command("compare_counters", organisation="acme", json=True)
    [found] = json.loads(capsys.readouterr().out)["items"]
    assert found["quota"] == limit.public_id
    assert (Decimal(found["stored_held"]), Decimal(found["held"])) == (1, 75)


def test_operators_allow_more_for_a_while(acme, acme_key, api, service_token, acme_access_token):
    limit = quota(acme, "requests", 1, "day", now=timezone.now())
    address = f"{ADDRESS}/{limit.public_id}/increases"
    more = {"amount": "1", "ends_at": (timezone.now() + timedelta(hours=1)).isoformat(), "reason": "launch day"}

    refused = api(acme_access_token.secret).post(address, more)
    assert (refused.status_code, refused.json()["code"]) in {(403, "service_token_required"), (403, "missing_scope")}
    assert ask(acme_key, now=timezone.now()).is_allowed
    assert not ask(acme_key, now=timezone.now()).is_allowed
    raised = api(service_token.secret).post(f"{address}?organisation=acme", more)

    assert (raised.status_code, raised.json()["amount_now"]) == (201, "2")
    assert ask(acme_key, now=timezone.now()).is_allowed


def test_operators_set_raise_and_lift_limits_in_the_admin(client_for, operator, acme):
    client = client_for(operator)
    form = {"organisation": acme.pk, "scope": "organisation", "measure": "requests", "window": "day"}
    form |= {"amount": "5", "enforcement": "hard"}
    assert client.post("/admin/metering/quota/add/", form).status_code == 302
    limit = Quota.objects.get()
    assert (limit.set_by, limit.amount) == ("operator", 5)
    asking = f"/admin/metering/quota/{limit.pk}"

    assert "How much more" in client.get(f"{asking}/increase/").content.decode()
    client.post(f"{asking}/increase/", {"amount": "5", "ends_at": "2099-01-01 00:00", "reason": "launch"})
    assert limit.increases.get().reason == "launch"
    assert "Lift this limit" in client.get(f"{asking}/lifting/").content.decode()
    client.post(f"{asking}/lifting/")
    limit.refresh_from_db()
    assert limit.archived_at is not None
    wrong = client.post("/admin/metering/quota/add/", {**form, "measure": "spend"})
    assert "Name a currency where spend is measured" in wrong.content.decode()
