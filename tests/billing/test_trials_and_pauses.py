"""Times in which nothing is charged: what trials and pauses do to a bill, how they begin and end, who is told."""

from datetime import timedelta
from decimal import Decimal

import pytest
from django.core import mail

from accounts.models import AuditEntry
from billing import catalogue, schedules
from billing.bill_checks import check_invoice
from billing.invoicing import close_period, running_bill
from billing.models import PlanVersion, Subscription
from billing.models.subscriptions import SubscriptionState
from billing.periods import Cadence
from billing.resting import (
    NotOnTrial,
    NotPaused,
    PausedAlready,
    TrialEndPast,
    end_pause,
    end_trials,
    move_trial_end,
    pause,
)
from billing.subscribing import cancel, change_plan, subscribe
from billing.trial_reminders import remind_of_trials
from billing.uncharged import usage_not_charged, usage_without_charge
from tests.billing.billing_builders import LONG_AGO, TOKENS, at, price, subscribed, team, use

pytestmark = pytest.mark.django_db
OCTOBER, NOVEMBER = at(2026, 10), at(2026, 11)


@pytest.fixture
def tryable(db) -> PlanVersion:
    """$31 a month, tokens at the price book, ten days free."""
    price("input_tokens", "1.00")
    version = catalogue.draft_version(catalogue.create_plan("tryable", name="Tryable", is_public=True), currency="USD")
    version.trial_days = 10
    version.save()
    catalogue.add_flat_fee(version, label="Base", amount=Decimal(31), in_advance=True)
    catalogue.add_rate_card(version, label="Tokens", meters=TOKENS, included={"input_tokens": Decimal(3_100_000)})
    return catalogue.publish_version(version, now=LONG_AGO)


@pytest.fixture
def on_trial(globex, tryable) -> Subscription:
    return subscribed(globex, tryable, anchor=OCTOBER)


def amounts(subscription: Subscription, now) -> list[tuple[str, Decimal]]:
    return [(line.description, line.amount_exact) for line in running_bill(subscription, now).lines]


def test_trial_is_of_the_plan_and_had_once(globex, on_trial, tryable):
    assert (on_trial.state, on_trial.trial_ends_at) == (SubscriptionState.TRIALING, at(2026, 10, 11))
    cancel(on_trial, now=at(2026, 10, 2), at_once=True)

    again = subscribe(globex, tryable, now=at(2026, 10, 3))

    assert (again.state, again.trial_ends_at) == (SubscriptionState.ACTIVE, None)


def test_operator_may_give_another_trial_or_none(globex, acme, tryable):
    assert subscribe(globex, tryable, now=OCTOBER, trial_days=30).trial_ends_at == at(2026, 10, 31)
    assert subscribe(acme, tryable, now=OCTOBER, trial_days=0).trial_ends_at is None


def test_usage_in_a_trial_is_metered_and_not_charged(globex, on_trial):
    use(globex, at(2026, 10, 5), input_tokens=9_000_000)
    use(globex, at(2026, 10, 20), input_tokens=5_000_000)

    bill = running_bill(on_trial, at(2026, 10, 25))

    (usage,) = [line for line in bill.lines if line.kind == "usage"]
    # 21 of 31 days bring 21/31 of the allowance.
    assert (usage.quantity, usage.included) == (5_000_000, 2_100_000)
    free = [reading for reading in bill.uncovered if reading.meter == "input_tokens"]
    assert [(reading.quantity, reading.start) for reading in free] == [(9_000_000, OCTOBER)]
    assert bill.lines[0].amount_exact == 21


def test_bill_within_a_trial_charges_no_fee_yet(globex, on_trial):
    assert running_bill(on_trial, at(2026, 10, 5)).lines[0].explanation.endswith("($31.00 for 21 of 31 days)")
    move_trial_end(on_trial, ends_at=at(2026, 12, 1), now=at(2026, 10, 5))

    october = close_period(on_trial, now=at(2026, 11, 2))
    november = close_period(on_trial, now=at(2026, 12, 2))

    assert october.total_minor == 0
    # December was not charged in advance, as long as the trial held when it was decided.
    assert [(line.description, line.amount_exact) for line in november.lines.all()] == [("Base", Decimal(31))]


def test_trial_that_ends_at_a_boundary_is_followed_by_the_whole_fee(globex, on_trial):
    move_trial_end(on_trial, ends_at=NOVEMBER, now=at(2026, 10, 5))

    october = close_period(on_trial, now=at(2026, 11, 2))

    assert [(line.period_start, line.amount_exact) for line in october.lines.all()] == [(NOVEMBER, Decimal(31))]
    assert amounts(on_trial, at(2026, 11, 5)) == [("Base", Decimal(31))]


def test_end_of_a_trial_is_said_once_and_audited(on_trial):
    assert end_trials(at(2026, 10, 10, 23, 59)) == 0
    assert end_trials(at(2026, 10, 11)) == 1
    assert end_trials(at(2026, 10, 12)) == 0

    on_trial.refresh_from_db()
    assert on_trial.state == SubscriptionState.ACTIVE
    assert AuditEntry.objects.filter(action="subscription.trial_ended").count() == 1


def test_trial_is_moved_only_while_it_lasts_and_never_into_the_past(on_trial):
    with pytest.raises(TrialEndPast):
        move_trial_end(on_trial, ends_at=at(2026, 10, 4), now=at(2026, 10, 5))
    assert move_trial_end(on_trial, ends_at=at(2026, 10, 5), now=at(2026, 10, 5)).state == SubscriptionState.ACTIVE
    with pytest.raises(NotOnTrial):
        move_trial_end(on_trial, ends_at=at(2026, 10, 20), now=at(2026, 10, 12))


def test_cancelling_in_a_trial_ends_with_it_and_costs_nothing(globex, on_trial):
    use(globex, at(2026, 10, 5), input_tokens=9_000_000)

    assert cancel(on_trial, now=at(2026, 10, 5)).ends_at == at(2026, 10, 11)

    assert close_period(on_trial, now=at(2026, 10, 13)).total_minor == 0


def test_change_of_plan_within_a_trial_keeps_the_trial(globex, on_trial):
    change_plan(on_trial, team("scale", fee="310"), now=at(2026, 10, 5), at_once=True)

    assert amounts(on_trial, at(2026, 10, 20))[0] == ("Scale plan", Decimal(210))


def test_reminder_goes_out_once_three_days_before(gus, on_trial):
    assert remind_of_trials(at(2026, 10, 7, 23)) == 0
    assert remind_of_trials(at(2026, 10, 8, 1)) == 1
    assert remind_of_trials(at(2026, 10, 8, 2)) == 0

    (message,) = mail.outbox
    assert message.to == [gus.email]
    assert message.subject == "The trial of Tryable ends soon"
    assert "/o/globex/plan/" in message.body


def test_reminder_that_the_mail_server_refused_is_tried_again(settings, on_trial):
    taken = settings.MAILERS
    settings.MAILERS = {"default": {"BACKEND": "tests.billing.test_announcing.RefusingBackend"}}
    assert remind_of_trials(at(2026, 10, 9)) == 0
    settings.MAILERS = taken

    assert remind_of_trials(at(2026, 10, 9, 1)) == 1


def test_who_cancelled_is_not_reminded(on_trial):
    cancel(on_trial, now=at(2026, 10, 5))

    assert remind_of_trials(at(2026, 10, 9)) == 0


# --- pauses


@pytest.fixture
def subscription(globex) -> Subscription:
    price("input_tokens", "1.00")
    return subscribed(globex, team(fee="30"), anchor=OCTOBER)


def test_pause_begins_at_the_next_quarter_hour_and_gives_the_fee_back(globex, subscription, operator):
    close_period(subscription, now=at(2026, 11, 2))
    pause(subscription, now=at(2026, 11, 10, 23, 50), reason="Holidays", actor=operator)
    use(globex, at(2026, 11, 10, 23, 55), input_tokens=1_000_000)
    use(globex, at(2026, 11, 12), input_tokens=9_000_000)

    november = close_period(subscription, now=at(2026, 12, 2))

    assert [(line.description, line.amount_exact) for line in november.lines.all()] == [
        ("Team plan, unused part", Decimal(-20)),
        ("gpt-4o, input tokens", Decimal(1)),
        ("Carried over to the next invoice", Decimal(19)),
    ]
    assert "9000000" in [reading["quantity"] for reading in november.evidence["not_charged"]]
    assert [held.get("nothing_charged") for held in november.evidence["periods"][0]["plans"]] == [None, "pause"]
    assert check_invoice(november) == []
    entry = AuditEntry.objects.get(action="subscription.paused")
    assert (entry.actor, entry.details["reason"]) == (operator, "Holidays")


def test_after_a_pause_the_rest_of_the_fee_is_charged(globex, subscription):
    close_period(subscription, now=at(2026, 11, 2))
    pause(subscription, now=at(2026, 11, 10, 23, 50))
    close_period(subscription, now=at(2026, 12, 2))
    end_pause(subscription, now=at(2026, 12, 11, 0, 3))

    december = close_period(subscription, now=at(2027, 1, 2))

    assert [line.amount_exact for line in december.lines.order_by("position")] == [
        Decimal(-20),  # carried over from November
        Decimal("20.322580645161"),
        Decimal(30),
    ]
    subscription.refresh_from_db()
    assert subscription.state == SubscriptionState.ACTIVE


def test_pause_ended_in_the_first_minutes_of_a_period_charges_it_whole(globex, subscription):
    """November's invoice, made at once, charged nothing in advance for December."""
    close_period(subscription, now=at(2026, 11, 2))
    pause(subscription, now=at(2026, 11, 20))
    close_period(subscription, now=at(2026, 12, 1, 0, 1), force_grace=True)
    end_pause(subscription, now=at(2026, 12, 1, 0, 9))

    assert amounts(subscription, at(2026, 12, 2))[1:] == [("Team plan", Decimal(30)), ("Team plan", Decimal(30))]


def test_pause_that_had_not_begun_leaves_nothing(subscription):
    pause(subscription, now=at(2026, 10, 10, 0, 1))
    with pytest.raises(PausedAlready):
        pause(subscription, now=at(2026, 10, 10, 0, 2))

    end_pause(subscription, now=at(2026, 10, 10, 0, 3))

    assert not subscription.pauses.exists()
    with pytest.raises(NotPaused):
        end_pause(subscription, now=at(2026, 10, 10, 0, 4))


def test_commitment_counts_for_the_time_without_the_pause(globex):
    version = catalogue.draft_version(catalogue.create_plan("committed", name="Committed"), currency="USD")
    catalogue.add_minimum(version, label="Commitment", amount=Decimal(310))
    subscription = subscribed(globex, catalogue.publish_version(version, now=OCTOBER), anchor=OCTOBER)
    pause(subscription, now=at(2026, 10, 10, 23, 50))
    end_pause(subscription, now=at(2026, 10, 30))

    assert close_period(subscription, now=at(2026, 11, 2)).total_minor == 12000


# --- rhythms


@pytest.mark.parametrize(("cadence", "end"), [("2 weeks", at(2026, 10, 15)), ("3 months", at(2027, 1))])
def test_periods_of_any_rhythm_are_closed_as_months_are(globex, cadence, end):
    price("input_tokens", "1.00")
    subscription = subscribed(globex, team(fee="30", cadence=cadence), anchor=OCTOBER)
    use(globex, at(2026, 10, 5), input_tokens=1_000_000)

    invoice = close_period(subscription, now=end + timedelta(days=1))

    assert (invoice.period_end, invoice.total_minor) == (end, 6100)
    assert schedules.current_period(subscription, end).start == end


def test_cadence_is_kept_in_its_plainest_words(db):
    assert team(cadence="12 months").cadence == "year"
    assert Cadence("14 days") == "2 weeks"


def test_usage_says_why_it_was_not_charged(globex, on_trial, gus, client_for):
    """On the running bill and on the invoice; requests are not part of the plan at any time."""
    trial_ends_at = on_trial.trial_ends_at
    use(globex, trial_ends_at - timedelta(days=1), input_tokens=1000)
    use(globex, trial_ends_at + timedelta(days=1), input_tokens=1000)
    closed_at = schedules.current_period(on_trial, trial_ends_at).end + timedelta(days=1)
    bill = running_bill(on_trial, trial_ends_at + timedelta(days=2))

    invoice = close_period(on_trial, now=closed_at)

    expected = [
        ("Not part of the plan", "requests", 1),
        ("On trial", "input_tokens", 1000),
        ("On trial", "requests", 1),
    ]
    for found in (usage_without_charge(bill), usage_not_charged(invoice.evidence)):
        assert [(one.reason, one.meter, one.quantity) for one in found] == expected
    page = client_for(gus).get(f"/o/globex/invoices/{invoice.number}/").content.decode()
    assert "On trial" in page
