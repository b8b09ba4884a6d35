"""What operators do in the admin: look, add prices, publish plans, close periods after a dry run."""

import pytest
import time_machine

from accounts.models import AuditEntry
from billing import catalogue
from billing.invoicing import close_period
from billing.models import Invoice, Plan, PlanVersion, Price, StripeEvent, StripeInvoice, Subscription
from tests.billing.billing_builders import at, meter, payg, price, subscribed, use

NOW = at(2026, 11, 22, 18)


@pytest.fixture(autouse=True)
def _at_a_fixed_time():
    with time_machine.travel(NOW, tick=False):
        yield


@pytest.fixture
def desk(client_for, operator):
    return client_for(operator)


@pytest.fixture
def subscription(globex) -> Subscription:
    price("input_tokens", "2.50", model="gpt-4o")
    subscription = subscribed(globex, payg(), anchor=at(2026, 10))
    use(globex, at(2026, 10, 12), input_tokens=18_059_974)
    return subscription


def closing(subscription: Subscription) -> str:
    return f"/admin/billing/subscription/{subscription.pk}/closing/"


def test_every_list_and_every_row_opens(desk, subscription):
    close_period(subscription, now=NOW)
    StripeEvent.objects.create(id="evt_1", type="invoice.paid", created_at=NOW, payload={})
    names = "plan planversion price subscription invoice billingdetails stripeinvoice stripecustomer stripeevent"
    for name in names.split():
        page = desk.get(f"/admin/billing/{name}/")
        assert page.status_code == 200, name
        row = page.context["cl"].queryset.first()
        if row is not None:
            assert desk.get(f"/admin/billing/{name}/{row.pk}/change/").status_code == 200, name


def test_members_who_are_not_staff_do_not_get_in(client_for, gus, subscription):
    assert client_for(gus).get(closing(subscription)).status_code == 302
    assert client_for(gus).post(closing(subscription)).status_code == 302
    assert not Invoice.objects.exists()


def test_dry_run_shows_lines_and_total_and_changes_nothing(desk, subscription):
    page = desk.get(closing(subscription)).content.decode()

    assert "18,059,974 input tokens × $2.50 per 1,000,000 = $45.149935" in page
    assert "$45.15" in page
    assert not Invoice.objects.exists()


def test_confirmed_closing_makes_the_invoice_that_was_shown_and_is_audited(desk, operator, globex, subscription):
    response = desk.post(closing(subscription), {f"period-{subscription.pk}": "2026-10-01T00:00:00+00:00"})

    invoice = Invoice.objects.get()
    assert response["Location"] == "/admin/billing/invoice/"
    assert (invoice.period_start, invoice.total_minor) == (at(2026, 10), 4515)
    assert AuditEntry.objects.for_organisation(globex).get(action="invoice.finalised").actor == operator


def test_what_somebody_else_closed_meanwhile_is_not_followed_by_the_next_period(desk, subscription):
    shown = {f"period-{subscription.pk}": "2026-10-01T00:00:00+00:00"}
    close_period(subscription, now=NOW)

    with time_machine.travel(at(2026, 12, 2), tick=False):
        desk.post(closing(subscription), shown)

    assert Invoice.objects.count() == 1


def test_grace_is_kept_unless_the_operator_says_otherwise(desk, subscription):
    shown = {f"period-{subscription.pk}": "2026-10-01T00:00:00+00:00"}
    with time_machine.travel(at(2026, 11, 1, 0, 30), tick=False):
        assert "In grace" in desk.get(closing(subscription)).content.decode()
        desk.post(closing(subscription), shown)
        assert not Invoice.objects.exists()
        desk.post(closing(subscription), {**shown, "skip_grace": "yes"})
        assert Invoice.objects.count() == 1


def test_selected_subscriptions_lead_to_one_dry_run(desk, acme, subscription):
    other = subscribed(acme, payg("other"), anchor=at(2026, 10))
    chosen = {"action": "close_selected", "_selected_action": [subscription.pk, other.pk]}

    response = desk.post("/admin/billing/subscription/", chosen, follow=True)

    assert [run.subscription for run in response.context["runs"]] == [subscription, other]


def test_price_is_added_through_the_verb_and_never_changed(desk, operator):
    filled = {
        "kind": "list",
        "meter": meter("input_tokens").pk,
        "model": "o9",
        "currency": "usd",
        "amount": "1.25",
        "scale": "1000000",
        "valid_from_0": "2026-11-01",
        "valid_from_1": "00:00",
        "source": "operator",
    }

    assert desk.post("/admin/billing/price/add/", filled).status_code == 302
    added = Price.objects.get()
    assert (added.model, added.currency, added.valid_from) == ("o9", "USD", at(2026, 11))
    assert AuditEntry.objects.get(action="price.added").actor == operator
    assert desk.post(f"/admin/billing/price/{added.pk}/change/", {"amount": "0"}).status_code == 403
    off = desk.post("/admin/billing/price/add/", {**filled, "valid_from_1": "00:07"})
    assert "quarter hour" in off.content.decode()
    assert Price.objects.count() == 1


def test_version_is_published_after_asking_and_then_frozen(desk, operator):
    version = catalogue.draft_version(catalogue.create_plan("new", name="New"), currency="USD")
    catalogue.add_rate_card(version, label="Tokens")
    address = f"/admin/billing/planversion/{version.pk}"

    assert "Publish New v1?" in desk.get(f"{address}/publication/").content.decode()
    assert PlanVersion.objects.get().published_at is None
    desk.post(f"{address}/publication/", {"confirmed": "yes"})
    assert PlanVersion.objects.get().published_at == NOW
    assert AuditEntry.objects.get(action="plan_version.published").actor == operator
    assert desk.post(f"{address}/change/", {"currency": "EUR"}).status_code == 403


def test_new_version_starts_as_a_copy(desk):
    payg(included={"input_tokens": 5})
    plan = Plan.objects.get()

    desk.get(f"/admin/billing/plan/{plan.pk}/new-version/")
    assert plan.versions.count() == 1
    desk.post(f"/admin/billing/plan/{plan.pk}/new-version/", {"confirmed": "yes"})

    draft = plan.versions.get(number=2)
    assert draft.published_at is None
    assert draft.components.get().included == {"input_tokens": "5"}


def test_operator_subscribes_an_organisation(desk, globex):
    version = payg()
    filled = {
        "organisation": globex.pk,
        "plan_version": version.pk,
        "anchor_at_0": "2026-11-01",
        "anchor_at_1": "00:00",
    }

    assert desk.post("/admin/billing/subscription/add/", filled).status_code == 302
    assert Subscription.objects.get().anchor_at == at(2026, 11)
    assert "has a plan already" in desk.post("/admin/billing/subscription/add/", filled, follow=True).content.decode()


def test_stuck_push_is_put_back_into_the_queue(desk, operator, globex, subscription):
    invoice = close_period(subscription, now=NOW)
    StripeInvoice.objects.filter(invoice=invoice).update(state="refused", next_try_at=at(2027, 1))

    desk.post("/admin/billing/stripeinvoice/", {"action": "retry_now", "_selected_action": [invoice.pk]})

    push = StripeInvoice.objects.get(invoice=invoice)
    assert (push.state, push.next_try_at) == ("waiting", None)
    assert AuditEntry.objects.get(action="invoice.push_retried").actor == operator
