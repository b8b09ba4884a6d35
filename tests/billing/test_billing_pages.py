"""The pages of billing: who may see and do what, and what they show."""

from datetime import timedelta
from decimal import Decimal

import pytest
import time_machine
from django.contrib.messages import get_messages

from accounts.models import AuditEntry
from billing import catalogue
from billing.forecasting import make_forecasts
from billing.invoicing import close_period
from billing.models import BillingDetails, Subscription
from billing.schedules import version_at
from billing.subscribing import cancel, change_plan, current_subscription
from tests.billing.billing_builders import at, payg, price, subscribed, team, use

NOW = at(2026, 11, 22, 18)
INVOICE = "/o/acme/invoices/KT-2026-00001/"
READABLE = ["/o/acme/", "/o/acme/bill/", "/o/acme/invoices/", INVOICE, "/o/acme/plan/"]
RESERVED = [
    INVOICE + "payment/",
    "/o/acme/plan/subscription/?plan=team",
    "/o/acme/plan/change/?plan=team",
    "/o/acme/plan/cancellation/",
    "/o/acme/plan/billing-details/",
]
ACTS = [
    "/o/acme/plan/subscription/?plan=team",
    "/o/acme/plan/change/?plan=team",
    "/o/acme/plan/change/withdrawal/",
    "/o/acme/plan/cancellation/",
    "/o/acme/plan/resumption/",
    "/o/acme/plan/coupon/",
    "/o/acme/plan/billing-details/",
]


@pytest.fixture(autouse=True)
def _at_a_fixed_time():
    with time_machine.travel(NOW, tick=False):
        yield


@pytest.fixture
def subscription(acme) -> Subscription:
    price("input_tokens", "2.50", model="gpt-4o")
    team()
    return subscribed(acme, payg(), anchor=at(2026, 10, 10))


@pytest.fixture
def invoice(acme, subscription):
    use(acme, at(2026, 10, 12), input_tokens=18_059_974)
    return close_period(subscription, now=at(2026, 11, 11))


@pytest.mark.parametrize("path", READABLE)
def test_every_member_may_read(client_for, vera, invoice, path):
    assert client_for(vera).get(path).status_code == 200


@pytest.mark.parametrize("path", [*READABLE, *RESERVED])
def test_pages_of_another_organisation_do_not_exist(client_for, gus, globex, invoice, path):
    assert client_for(gus).get(path).status_code == 404


@pytest.mark.parametrize("path", ACTS)
def test_nothing_of_another_organisation_can_be_changed(client_for, gus, globex, invoice, path):
    assert client_for(gus).post(path).status_code == 404


@pytest.mark.parametrize("path", [*READABLE, *RESERVED])
def test_anonymous_visitors_are_asked_to_sign_in(client, invoice, path):
    response = client.get(path)

    assert response.status_code == 302
    assert "/accounts/login/" in response["Location"]


@pytest.mark.parametrize("person", ["vera", "martin"])
@pytest.mark.parametrize("path", ACTS)
def test_viewer_and_developer_cannot_change_anything(request, client_for, invoice, subscription, person, path):
    member = request.getfixturevalue(person)
    before = AuditEntry.objects.count()

    assert client_for(member).post(path, {"legal_name": "Mine", "email": "a@b.example"}).status_code == 403
    assert AuditEntry.objects.count() == before
    assert BillingDetails.objects.get().legal_name == "Acme"
    subscription.refresh_from_db()
    assert subscription.ends_at is None
    assert subscription.phases.count() == 1


@pytest.mark.parametrize("path", RESERVED)
def test_viewer_is_refused_pages_that_act(client_for, vera, invoice, path):
    assert client_for(vera).get(path).status_code == 403


def test_viewer_sees_no_buttons_that_act(client_for, vera, invoice):
    page = client_for(vera).get("/o/acme/plan/").content.decode()

    assert "Change to Team" not in page
    assert "Cancel the plan" not in page


def test_invoice_of_another_organisation_is_not_found_under_ones_own_address(client_for, gus, globex, invoice):
    assert client_for(gus).get("/o/globex/invoices/KT-2026-00001/").status_code == 404


def test_invoice_shows_lines_explanations_and_evidence(client_for, olivia, invoice):
    page = client_for(olivia).get(INVOICE).content.decode()

    assert "18,059,974 input tokens × $2.50 per 1,000,000 = $45.149935" in page
    assert "$45.15" in page
    assert invoice.evidence["digest"] in page
    # The anchor is two o'clock in Berlin, before and after the clocks change.
    assert "10 Oct 2026, 02:00 – 10 Nov 2026, 02:00" in page


def test_bill_shows_the_running_period_and_what_has_no_price(client_for, olivia, acme, invoice):
    use(acme, at(2026, 11, 20), input_tokens=4_000_000)
    use(acme, at(2026, 11, 20), "unheard-of", input_tokens=77)

    page = client_for(olivia).get("/o/acme/bill/").content.decode()

    assert "$10.00" in page
    assert "No price yet" in page
    assert "unheard-of" in page


def test_bill_refreshes_only_its_figures(client_for, olivia, invoice):
    response = client_for(olivia).get("/o/acme/bill/", headers={"HX-Request": "true"})

    assert b"<html" not in response.content
    assert b'id="bill-figures"' in response.content
    assert "HX-Request" in response["Vary"]


def test_bill_of_a_period_about_to_be_closed_can_be_chosen(client_for, olivia, subscription):
    client = client_for(olivia)

    assert b"about to be closed" in client.get("/o/acme/bill/?period=2026-10-10T00:00:00%2B00:00").content
    assert client.get("/o/acme/bill/?period=2020-01-01T00:00:00%2B00:00").status_code == 404
    assert client.get("/o/acme/bill/?period=nonsense").status_code == 404


def test_without_plan_and_usage_the_overview_lists_first_steps(client_for, olivia, acme):
    page = client_for(olivia).get("/o/acme/").content.decode()

    assert "Choose a plan" in page
    assert "Make an API key" in page
    assert acme.public_id in page
    assert "No plan yet" in client_for(olivia).get("/o/acme/bill/").content.decode()


def test_empty_overview_waits_and_then_reloads(client_for, olivia, acme):
    client = client_for(olivia)
    poll = {"HX-Request": "true", "HX-Trigger": "first-event"}

    assert client.get("/o/acme/", headers=poll).status_code == 204
    use(acme, at(2026, 11, 22, 17), input_tokens=5)
    assert client.get("/o/acme/", headers=poll)["HX-Refresh"] == "true"


def test_overview_shows_tokens_spend_and_change(client_for, olivia, acme, invoice):
    use(acme, at(2026, 11, 12), input_tokens=20_000_000)
    make_forecasts(NOW)

    response = client_for(olivia).get("/o/acme/")

    assert response.context["consumption"].tokens == 20_000_000
    assert response.context["consumption"].before == 18_059_974
    assert response.context["consumption"].change_percent == 11
    assert response.context["chart"]["labels"] == [f"{day} Nov" for day in range(9, 23)]
    assert response.context["chart"]["series"] == [
        {"name": "gpt-4o", "values": [20_000_000 if day == 12 else 0 for day in range(9, 23)]}
    ]
    assert response.context["bill"].total_minor == 5000
    assert response.context["forecast"].total_minor > 5000


def test_overview_without_a_chart_reloads_once_there_are_days_to_draw(client_for, olivia, acme, subscription):
    client = client_for(olivia)
    use(acme, at(2026, 10, 20), input_tokens=5)
    address, poll = "/o/acme/?without-chart", {"HX-Request": "true"}

    assert b"overview-live" in client.get(address, headers=poll).content
    use(acme, at(2026, 11, 20), input_tokens=5)
    assert client.get(address, headers=poll)["HX-Refresh"] == "true"
    assert b"overview-live" in client.get("/o/acme/", headers=poll).content


def test_choosing_a_plan_starts_a_subscription(client_for, olivia, acme):
    team()
    client = client_for(olivia)

    assert b"Start Team" in client.get("/o/acme/plan/subscription/?plan=team").content
    assert client.post("/o/acme/plan/subscription/?plan=team")["Location"] == "/o/acme/"
    assert current_subscription(acme, NOW).phases.get().plan_version.plan.key == "team"


def test_choosing_twice_says_why_not(client_for, olivia, subscription):
    response = client_for(olivia).post("/o/acme/plan/subscription/?plan=team")

    assert response["Location"] == "/o/acme/plan/"
    assert [str(message) for message in get_messages(response.wsgi_request)] == [
        "This organisation has a plan already. Change that one instead."
    ]


def test_unknown_plan_is_not_found(client_for, olivia, subscription):
    assert client_for(olivia).get("/o/acme/plan/change/?plan=nonsense").status_code == 404


def test_plan_page_tells_of_a_coming_change_and_of_the_end(client_for, olivia, acme, subscription):
    client = client_for(olivia)
    client.post("/o/acme/plan/change/?plan=team")
    assert "Team takes over on" in client.get("/o/acme/plan/").content.decode()

    client.post("/o/acme/plan/cancellation/")
    assert "This plan ends on" in client.get("/o/acme/plan/").content.decode()

    client.post("/o/acme/plan/resumption/")
    assert "This plan ends on" not in client.get("/o/acme/plan/").content.decode()


def test_billing_details_are_saved_checked_and_audited(client_for, olivia, acme):
    client = client_for(olivia)
    filled = {"legal_name": "Acme GmbH", "email": "finance@acme.example", "country": "de"}

    assert client.post("/o/acme/plan/billing-details/", filled).status_code == 302
    details = BillingDetails.objects.get(organisation=acme)
    assert (details.legal_name, details.country) == ("Acme GmbH", "DE")
    assert AuditEntry.objects.filter(action="billing_details.changed").get().details["legal_name"][1] == "Acme GmbH"
    assert client.post("/o/acme/plan/billing-details/", {**filled, "country": "Germany"}).status_code == 422


def test_payment_page_that_is_not_ready_leads_back_with_a_word(client_for, olivia, invoice):
    response = client_for(olivia).get(INVOICE + "payment/")

    assert response["Location"] == INVOICE
    assert "not ready yet" in str(next(iter(get_messages(response.wsgi_request))))


@pytest.mark.parametrize(("path", "most"), [("/o/acme/invoices/", 12), (INVOICE, 12), ("/o/acme/plan/", 24)])
def test_queries_do_not_grow_with_rows(
    client_for, olivia, acme, subscription, invoice, django_assert_max_num_queries, path, most
):
    client = client_for(olivia)
    client.get(path)
    with django_assert_max_num_queries(most) as few:
        client.get(path)
    use(acme, at(2026, 11, 12), input_tokens=20_000_000)
    for month in (12, 1):
        close_period(subscription, now=at(2026 if month == 12 else 2027, month, 11))

    with django_assert_max_num_queries(len(few)):
        client.get(path)


def test_ended_subscription_leaves_the_pages_readable(client_for, olivia, acme, subscription):
    cancel(subscription, now=at(2026, 10, 20))
    close_period(subscription, now=at(2026, 11, 11))
    client = client_for(olivia)

    assert "Everything is invoiced" in client.get("/o/acme/bill/").content.decode()
    assert "Choose Team" in client.get("/o/acme/plan/").content.decode()


def test_coming_change_can_be_taken_back_on_the_plan_page(client_for, olivia, subscription):
    change_plan(subscription, team("scale", fee="499"), now=NOW)
    client = client_for(olivia)
    assert b"Stay on Payg" in client.get("/o/acme/plan/").content

    client.post("/o/acme/plan/change/withdrawal/")

    assert b"Stay on Payg" not in client.get("/o/acme/plan/").content


def test_change_page_says_what_each_time_would_cost(client_for, olivia, subscription):
    content = client_for(olivia).get("/o/acme/plan/change/?plan=team").content.decode()

    assert "When this period ends, on" in content
    assert "Now, from" in content
    assert "The bill of this period, so far" in content


def test_change_can_be_made_at_once(client_for, olivia, subscription):
    client_for(olivia).post("/o/acme/plan/change/?plan=team", {"when": "now"})

    assert version_at(subscription, NOW).plan.key == "team"


def test_plan_can_be_cancelled_at_once(client_for, olivia, acme, subscription):
    client_for(olivia).post("/o/acme/plan/cancellation/", {"when": "now"})

    assert current_subscription(acme, NOW + timedelta(minutes=15)) is None


def test_plan_made_for_one_organisation_is_offered_to_that_one_alone(client_for, olivia, gus, acme, globex):
    special = team("special", fee="7")
    special.plan.organisation, special.plan.is_public = acme, False
    special.plan.save()

    assert b"Choose Special" in client_for(olivia).get("/o/acme/plan/").content
    assert b"Special" not in client_for(gus).get("/o/globex/plan/").content
    assert client_for(gus).post("/o/globex/plan/subscription/?plan=special").status_code == 404


def test_trial_is_announced_before_choosing_and_on_the_plan(client_for, olivia, acme):
    version = catalogue.draft_version(catalogue.create_plan("try", name="Try", is_public=True), currency="USD")
    version.trial_days = 14
    version.save()
    catalogue.add_flat_fee(version, label="Fee", amount=Decimal(9))
    catalogue.publish_version(version, now=NOW)
    client = client_for(olivia)

    assert "14 days on trial" in client.get("/o/acme/plan/subscription/?plan=try").content.decode()
    client.post("/o/acme/plan/subscription/?plan=try")
    assert "Your trial runs until" in client.get("/o/acme/plan/").content.decode()
