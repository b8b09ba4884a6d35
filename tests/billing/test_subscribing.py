"""Starting, changing and ending subscriptions."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from django.db import connection

from accounts.models import AuditEntry
from billing import catalogue, schedules
from billing.models import BillingDetails, Subscription
from billing.subscribing import (
    AlreadySubscribed,
    AnchorInFuture,
    AnchorOverlaps,
    PlanDoesNotFit,
    PlanNotOnOffer,
    SamePlan,
    SubscriptionOver,
    cancel,
    change_plan,
    current_subscription,
    resume,
    subscribe,
)
from tests.billing.billing_builders import at, payg, subscribed, team

NOW = at(2026, 11, 22, 18, 7)


def test_anchor_is_floored_to_a_quarter_hour(acme):
    subscription = subscribe(acme, payg(), now=NOW)

    assert subscription.anchor_at == at(2026, 11, 22, 18, 0)
    assert subscription.time_zone == "Europe/Berlin"
    assert subscription.phases.get().starts_at == subscription.anchor_at


def test_billing_details_come_from_the_organisation_and_its_owner(acme, olivia):
    subscribe(acme, payg(), now=NOW)

    details = BillingDetails.objects.get(organisation=acme)
    assert (details.legal_name, details.email) == ("Acme", olivia.email)


def test_starting_is_audited_with_the_person(acme, olivia):
    subscription = subscribe(acme, payg(), now=NOW, actor=olivia)

    entry = AuditEntry.objects.for_organisation(acme).filter(action="subscription.started").get()
    assert entry.actor == olivia
    assert entry.subject_id == subscription.public_id
    assert entry.details == {"plan": "payg", "version": 1}


def test_second_subscription_is_refused(acme):
    subscribe(acme, payg(), now=NOW)

    with pytest.raises(AlreadySubscribed):
        subscribe(acme, team(), now=NOW)


@pytest.mark.django_db(transaction=True)
def test_of_many_at_once_one_subscription_is_made(acme):
    version = payg()

    def attempt(_: int) -> bool:
        try:
            subscribe(acme, version, now=NOW)
        except AlreadySubscribed:
            return False
        finally:
            connection.close()
        return True

    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(attempt, range(8)))

    assert results.count(True) == 1
    assert Subscription.objects.for_organisation(acme).count() == 1


def test_draft_versions_and_archived_plans_cannot_be_taken(acme):
    draft = catalogue.draft_version(catalogue.create_plan("draft", name="Draft"), currency="USD")
    archived = payg("old")
    archived.plan.archived_at = NOW
    archived.plan.save()

    for version in (draft, archived):
        with pytest.raises(PlanNotOnOffer):
            subscribe(acme, version, now=NOW)


def test_subscription_cannot_start_in_the_future(acme):
    with pytest.raises(AnchorInFuture):
        subscribe(acme, payg(), now=NOW, anchor=NOW + timedelta(hours=1))


def test_change_takes_effect_at_the_next_boundary(acme):
    subscription = subscribed(acme, payg(), anchor=at(2026, 11, 10))
    other = team()

    change_plan(subscription, other, now=NOW)

    assert schedules.version_at(subscription, NOW).plan.key == "payg"
    assert schedules.pending_phase(subscription, NOW).starts_at == at(2026, 12, 10)
    assert schedules.version_at(subscription, at(2026, 12, 10)) == other


def test_later_change_replaces_the_one_still_to_come(acme):
    subscription = subscribed(acme, payg(), anchor=at(2026, 11, 10))
    change_plan(subscription, team(), now=NOW)
    last = team("scale", fee="499")

    change_plan(subscription, last, now=NOW)

    assert subscription.phases.count() == 2
    assert schedules.pending_phase(subscription, NOW).plan_version == last


def test_choosing_the_plan_in_force_takes_a_coming_change_back(acme):
    version = payg()
    subscription = subscribed(acme, version, anchor=at(2026, 11, 10))
    change_plan(subscription, team(), now=NOW)

    change_plan(subscription, version, now=NOW)

    assert schedules.pending_phase(subscription, NOW) is None
    with pytest.raises(SamePlan):
        change_plan(subscription, version, now=NOW)


def test_plan_of_another_currency_or_rhythm_does_not_fit(acme):
    subscription = subscribed(acme, payg(), anchor=at(2026, 11, 10))

    for version in (payg("payg-eur", currency="EUR"), team("yearly", cadence="year")):
        with pytest.raises(PlanDoesNotFit):
            change_plan(subscription, version, now=NOW)


def test_cancelling_ends_the_subscription_with_its_period(acme):
    subscription = subscribed(acme, payg(), anchor=at(2026, 11, 10))

    cancelled = cancel(subscription, now=NOW)

    assert cancelled.ends_at == at(2026, 12, 10)
    assert current_subscription(acme, at(2026, 12, 9)) == subscription
    assert current_subscription(acme, at(2026, 12, 10)) is None
    with pytest.raises(SubscriptionOver):
        change_plan(subscription, team(), now=at(2026, 12, 10))


def test_cancellation_can_be_taken_back_until_it_takes_effect(acme):
    subscription = subscribed(acme, payg(), anchor=at(2026, 11, 10))
    cancel(subscription, now=NOW)

    assert resume(subscription, now=NOW).ends_at is None


def test_after_the_end_a_new_subscription_can_start_but_not_reach_back(acme):
    version = payg()
    subscription = subscribed(acme, version, anchor=at(2026, 10, 10))
    cancel(subscription, now=at(2026, 11, 1))

    with pytest.raises(AnchorOverlaps):
        subscribe(acme, version, now=NOW, anchor=at(2026, 11, 9))
    assert subscribe(acme, version, now=NOW).anchor_at == at(2026, 11, 22, 18)


def test_periods_of_an_anchor_on_the_31st_follow_the_wall_clock(acme):
    """acme is in Berlin: local midnight on 31 January, clamped in February, back on the 31st in March (summer time)."""
    subscription = subscribed(acme, payg(), anchor=at(2026, 1, 30, 23), now=at(2026, 6, 1))

    february = schedules.period_containing(subscription, at(2026, 2, 10))
    march = schedules.period_after(subscription, february)

    assert (february.start, february.end) == (at(2026, 1, 30, 23), at(2026, 2, 27, 23))
    assert march.end == at(2026, 3, 30, 22)


def test_change_of_the_organisations_zone_moves_no_period(acme):
    subscription = subscribed(acme, payg(), anchor=at(2026, 11, 10))
    before = schedules.period_containing(subscription, NOW)
    acme.time_zone = "Pacific/Auckland"
    acme.save()

    assert schedules.period_containing(Subscription.objects.get(pk=subscription.pk), NOW) == before
