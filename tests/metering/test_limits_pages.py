"""The pages of limits: what they show, who may change what, and that a rehearsal tells the truth."""

from datetime import UTC, datetime
from decimal import Decimal

import pytest
import time_machine

from accounts.models import AuditEntry
from metering.admission import AdmissionRequest, admit
from metering.limits_page import tightest_limits
from metering.models import Hold, Quota
from metering.quotas import QuotaSpec, define_quota
from tests import factories
from tests.metering.usage_world import event, send

NOW = datetime(2026, 11, 15, 12, 0, 30, tzinfo=UTC)
LIMITS = "/o/acme/limits/"
NEW = {
    "counts": "meter:output_tokens",
    "amount": "500",
    "window": "day",
    "applies_to": "organisation",
    "enforcement": "hard",
    "thresholds": "80, 100",
    "models": "gpt-*",
}


@pytest.fixture(autouse=True)
def _at_a_fixed_time():
    with time_machine.travel(NOW, tick=False):
        yield


def limit(organisation, amount="100", *, set_by="operator", **more):
    spec = QuotaSpec(
        **{"measure": "meter", "meter_key": "output_tokens", "amount": Decimal(amount), "window": "day"} | more
    )
    return define_quota(organisation, spec, set_by=set_by, now=NOW, actor="test")


def call(key, call_id, units=75):
    request = AdmissionRequest(call_id, key.digest, "gpt-5", estimate={"output_tokens": Decimal(units)})
    return admit(request, now=NOW)


def test_limits_show_what_is_used_held_and_left(client_for, vera, acme, acme_key):
    limit(acme)
    call(acme_key, "running-call")
    call(acme_key, "too-much")

    page = client_for(vera).get(LIMITS).content.decode()

    for words in (
        "<strong>75</strong> held",
        "<strong>25</strong> left of 100",
        "running-call",
        "output tokens per day",
    ):
        assert words in page
    assert "Change it" not in page


def test_the_overview_shows_the_tightest_as_bars(client_for, vera, acme, acme_key, django_assert_num_queries):
    """Of four: the fullest first, what is full before what is nearly so, and the emptiest not at all."""
    limits = {amount: limit(acme, amount) for amount in ("1000", "75", "100", "150")}
    call(acme_key, "running-call")
    send(event(acme_key.api_key.public_id, NOW, model="gpt-5", input_tokens=1), now=NOW)

    with django_assert_num_queries(3):  # no window is a billing period's
        rows = tightest_limits(acme, NOW)
    page = client_for(vera).get("/o/acme/").content.decode()

    assert [row.quota for row in rows] == [limits["75"], limits["100"], limits["150"]]
    assert rows[0].taken_share == 1
    bars = page[page.index("overview-limits") :]
    assert [share in bars for share in ("100%", "75%", "50%", "7.5%")] == [True, True, True, False]
    assert bars.count("<meter") == 3
    assert LIMITS in bars


def test_without_limits_the_page_says_so(client_for, vera, acme):
    page = client_for(vera).get(LIMITS).content.decode()

    assert "No limits" in page
    assert "No call was refused" in page


def test_owner_sets_changes_and_removes_a_limit(client_for, olivia, acme, acme_key):
    client = client_for(olivia)

    assert client.post(f"{LIMITS}new/", NEW).status_code == 302
    quota = Quota.objects.get()
    assert (quota.set_by, quota.amount, quota.model_patterns, quota.thresholds) == (
        "customer",
        500,
        ["gpt-*"],
        [80, 100],
    )
    change = {"amount": "50", "enforcement": "hard", "thresholds": ""}
    assert client.post(f"{LIMITS}{quota.public_id}/", change).status_code == 302
    assert not call(acme_key, "a").is_allowed
    assert "no longer holds" in client.get(f"{LIMITS}{quota.public_id}/removal/").content.decode()
    client.post(f"{LIMITS}{quota.public_id}/removal/")
    assert call(acme_key, "b").is_allowed
    actions = AuditEntry.objects.filter(action__startswith="quota.").order_by("pk").values_list("action", flat=True)
    assert list(actions) == ["quota.set", "quota.changed", "quota.lifted"]


@pytest.mark.parametrize("scope", ["key", "project", "end_user"])
def test_limits_of_a_key_a_project_and_each_end_user(client_for, olivia, acme, acme_key, scope):
    places = {
        "key": f"key:{acme_key.api_key.public_id}",
        "project": f"project:{acme_key.api_key.project.public_id}",
        "end_user": "end_user",
    }

    client_for(olivia).post(f"{LIMITS}new/", {**NEW, "applies_to": places[scope]})

    assert Quota.objects.get().scope == {"key": "api_key"}.get(scope, scope)


def test_a_limit_above_the_providers_is_refused_with_a_sentence(client_for, olivia, acme):
    limit(acme, "400")

    page = client_for(olivia).post(f"{LIMITS}new/", NEW).content.decode()

    assert "would never be reached" in page
    assert Quota.objects.count() == 1


def test_what_the_provider_set_cannot_be_changed_by_the_customer(client_for, olivia, acme):
    quota = limit(acme)
    client = client_for(olivia)

    page = client.post(f"{LIMITS}{quota.public_id}/", {"amount": "9", "enforcement": "hard", "thresholds": ""})
    client.post(f"{LIMITS}{quota.public_id}/removal/")

    assert "set by your provider" in page.content.decode()
    quota.refresh_from_db()
    assert (quota.amount, quota.archived_at) == (100, None)


@pytest.mark.parametrize(
    "wrong", [{"amount": "-1"}, {"amount": "x"}, {"thresholds": "many"}, {"counts": "meter:nothing"}]
)
def test_what_cannot_be_read_is_named(client_for, olivia, acme, wrong):
    response = client_for(olivia).post(f"{LIMITS}new/", {**NEW, **wrong})

    assert response.status_code == 200
    assert not Quota.objects.exists()
    assert "error" in response.content.decode()


def test_viewers_and_developers_may_not_set_limits(client_for, vera, martin, acme):
    for person in (vera, martin):
        assert client_for(person).get(f"{LIMITS}new/").status_code == 403
        assert client_for(person).post(f"{LIMITS}new/", NEW).status_code == 403


def test_refusals_are_listed_with_their_reasons(client_for, vera, acme, acme_key):
    limit(acme, "10")
    for number in range(3):
        call(acme_key, f"call-{number}")

    page = client_for(vera).get(f"{LIMITS}denials/", {"code": "quota_exceeded"}).content.decode()

    assert "The limit of 10 output tokens per day has 10 left, too little for this call" in page
    assert ">3<" in page


def test_a_rehearsal_says_what_the_call_would_be_told_and_holds_nothing(client_for, vera, acme, acme_key):
    limit(acme)
    asked = {"key": acme_key.api_key.public_id, "model": "gpt-5", "prompt": "5", "answer": "75"}
    client = client_for(vera)

    page = client.get(f"{LIMITS}rehearsal/", asked).content.decode()
    assert "It would be admitted" in page
    assert "Nothing of it has a price" in page
    call(acme_key, "real")
    page = client.get(f"{LIMITS}rehearsal/", asked).content.decode()

    assert "It would be refused, with status 429" in page
    assert "Output tokens <small>per day</small>" in page
    assert Hold.objects.count() == 1


def test_rehearsing_with_a_key_of_another_organisation_is_not_possible(client_for, vera, acme, globex):
    theirs = factories.api_key(globex)

    page = client_for(vera).get(f"{LIMITS}rehearsal/", {"key": theirs.api_key.public_id, "model": "m"}).content.decode()

    assert "It would be" not in page


def test_limits_of_another_organisation_do_not_exist(client_for, gus, acme, globex):
    quota = limit(acme, set_by="customer")
    client = client_for(gus)

    for address in (LIMITS, f"{LIMITS}denials/", f"{LIMITS}rehearsal/", f"{LIMITS}{quota.public_id}/"):
        assert client.get(address).status_code == 404
    assert client.get(f"/o/globex/limits/{quota.public_id}/").status_code == 404


def test_what_gateways_do_while_we_cannot_be_reached_is_the_customers_choice(client_for, olivia, vera, acme, acme_key):
    form = {"when_unreachable": "closed", "default_input_tokens": "10", "default_output_tokens": "20"}
    form |= {"unreachable_requests": "", "unreachable_amount": ""}
    assert client_for(vera).post(f"{LIMITS}settings/", form).status_code == 403

    assert client_for(olivia).post(f"{LIMITS}settings/", form).status_code == 302

    answer = admit(AdmissionRequest("call-1", acme_key.digest, "gpt-5"), now=NOW)
    assert (answer.unreachable.mode, answer.unreachable.max_requests) == ("closed", None)
    assert answer.estimate == {"input_tokens": 10, "output_tokens": 20}
    assert "gateways refuse calls" in client_for(vera).get(LIMITS).content.decode()
    assert AuditEntry.objects.filter(action="admission_settings.changed").exists()
