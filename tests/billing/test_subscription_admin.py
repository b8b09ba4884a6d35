"""What operators do to one subscription and with coupons: by forms, with previews, through the verbs."""

from decimal import Decimal

import pytest
import time_machine

from accounts.models import AuditEntry
from billing import schedules
from billing.couponing import save_coupon
from billing.models import Coupon, PrepaidTerms, Subscription
from billing.models.subscriptions import SubscriptionState
from billing.subscribing import subscribe
from tests.billing.billing_builders import at, payg, price, subscribed, team

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
    price("input_tokens", "2.50")
    return subscribed(globex, payg(), anchor=at(2026, 11))


def address(subscription: Subscription, act: str) -> str:
    return f"/admin/billing/subscription/{subscription.pk}/{act}/"


@pytest.mark.parametrize(
    "act", ["plan-change", "cancellation", "reactivation", "pause", "pause-end", "trial", "coupon", "change"]
)
def test_every_page_opens(desk, subscription, act):
    assert desk.get(address(subscription, act)).status_code == 200


def test_plan_is_changed_after_a_preview(desk, operator, subscription):
    scale = team("scale", fee="300")
    values = {"plan_version": scale.pk, "when": "now"}

    page = desk.post(address(subscription, "plan-change"), {**values, "preview": "yes"}).content.decode()

    assert "Changed now, from" in page
    assert schedules.version_at(subscription, NOW).plan.key == "payg"
    desk.post(address(subscription, "plan-change"), values)
    assert schedules.version_at(subscription, NOW) == scale
    assert AuditEntry.objects.get(action="subscription.plan_changed").actor == operator


def test_plan_made_for_another_organisation_is_not_to_be_had(desk, acme, globex, subscription):
    theirs = team("theirs")
    theirs.plan.organisation = acme
    theirs.plan.save()

    page = desk.post(address(subscription, "plan-change"), {"plan_version": theirs.pk, "when": "now"})

    assert page.status_code == 200
    assert schedules.version_at(subscription, NOW).plan.key == "payg"


def test_pause_trial_and_cancellation_go_through_the_verbs(desk, globex, subscription):
    desk.post(address(subscription, "pause"), {"reason": "Asked for it"})
    subscription.refresh_from_db()
    assert (subscription.state, subscription.pauses.get().reason) == (SubscriptionState.PAUSED, "Asked for it")

    desk.post(address(subscription, "pause-end"), {})
    desk.post(address(subscription, "cancellation"), {"when": "period_end"})
    subscription.refresh_from_db()
    assert (subscription.state, subscription.ends_at) == (SubscriptionState.ACTIVE, at(2026, 12))

    desk.post(address(subscription, "reactivation"), {})
    subscription.refresh_from_db()
    assert subscription.ends_at is None


def test_trial_is_made_longer(desk, acme):
    on_trial = subscribe(acme, payg(), now=NOW, trial_days=5)

    desk.post(address(on_trial, "trial"), {"ends_at_0": "2026-12-24", "ends_at_1": "18:00:00"})

    on_trial.refresh_from_db()
    assert on_trial.trial_ends_at is not None
    assert on_trial.trial_ends_at.date() == at(2026, 12, 24).date()


def test_what_does_not_fit_is_said_and_not_done(desk, subscription):
    page = desk.post(address(subscription, "pause-end"), {}).content.decode()

    assert "This subscription is not paused." in page


def test_coupon_is_made_and_given(desk, operator, subscription):
    values = {"code": "welcome", "name": "Welcome", "percent": "10", "duration": "once", "most_per_organisation": "1"}

    desk.post("/admin/billing/coupon/add/", values)
    desk.post(address(subscription, "coupon"), {"code": "WELCOME"})

    assert Coupon.objects.get().code == "WELCOME"
    assert subscription.redemptions.get().coupon.name == "Welcome"
    assert AuditEntry.objects.get(action="coupon.redeemed").actor == operator


def test_coupon_that_makes_no_sense_is_said_in_the_form(desk):
    values = {"code": "x", "name": "X", "duration": "once", "most_per_organisation": "1"}

    page = desk.post("/admin/billing/coupon/add/", values)

    assert page.status_code == 200
    assert not Coupon.objects.exists()


def test_terms_of_a_redeemed_coupon_do_not_change_in_the_admin(desk, subscription):
    made = save_coupon(Coupon(code="FIVE", name="Five", percent=Decimal(5), redeemed=0))
    desk.post(address(subscription, "coupon"), {"code": "FIVE"})

    page = desk.post(
        f"/admin/billing/coupon/{made.pk}/change/",
        {"code": "FIVE", "name": "Five", "percent": "90", "duration": "once", "most_per_organisation": "1"},
    )

    assert b"It was redeemed already" in page.content
    made.refresh_from_db()
    assert made.percent == 5


def test_coupon_is_taken_away_after_asking(desk, operator, subscription):
    save_coupon(Coupon(code="FIVE", name="Five", percent=Decimal(5)))
    desk.post(address(subscription, "coupon"), {"code": "FIVE"})
    page = f"/admin/billing/couponredemption/{subscription.redemptions.get().pk}/withdrawal/"

    assert "Take FIVE away?" in desk.get(page).content.decode()
    assert subscription.redemptions.get().withdrawn_at is None
    desk.post(page, {"confirmed": "yes"})

    assert subscription.redemptions.get().withdrawn_at == NOW


def test_prepaid_is_agreed_and_ended(desk, operator, subscription):
    page = address(subscription, "prepaid")
    assert "How far below zero they may go, in USD" in desk.get(page).content.decode()

    said = desk.post(page, {"is_prepaid": "on", "overdraft": "2.50"}, follow=True).content.decode()
    terms = PrepaidTerms.objects.get()
    desk.post(page, {"overdraft": "0"})

    assert "New calls may cost $2.50 from now on." in said
    assert (terms.organisation, terms.overdraft) == (subscription.organisation, Decimal("2.5"))
    assert not PrepaidTerms.objects.exists()
    assert AuditEntry.objects.get(action="prepaid.ended").actor == operator
