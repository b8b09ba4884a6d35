"""Changing a plan while a period runs: fees to the second, usage to the quarter hour, and what a preview says of it."""

from datetime import timedelta
from decimal import Decimal

import pytest

from accounts.models import AuditEntry
from billing import catalogue, schedules
from billing.bill_checks import check_invoice
from billing.change_previews import preview_change
from billing.invoicing import close_period, running_bill
from billing.models import Invoice, InvoiceLine, Subscription
from billing.subscribing import (
    NoChangePending,
    SamePlan,
    SubscriptionOver,
    cancel,
    change_plan,
    subscribe,
    withdraw_change,
)
from tests.billing.billing_builders import at, payg, price, subscribed, team, use

pytestmark = pytest.mark.django_db
OCTOBER, NOVEMBER, DECEMBER = at(2026, 10), at(2026, 11), at(2026, 12)


@pytest.fixture
def team_plan(db):
    price("input_tokens", "1.00")
    return team()


@pytest.fixture
def subscription(globex, team_plan) -> Subscription:
    return subscribed(globex, team_plan, anchor=OCTOBER)


def lines_of(invoice: Invoice) -> list[tuple[str, Decimal]]:
    return [(line.description, line.amount_exact) for line in invoice.lines.order_by("position")]


def close(subscription: Subscription, month: int, year: int = 2026) -> Invoice:
    return close_period(subscription, now=at(year, month, 1) + timedelta(days=1))


def test_change_now_takes_effect_at_the_quarter_hour_that_runs(subscription):
    change_plan(subscription, team("scale", fee="499"), now=at(2026, 10, 10, 14, 44), at_once=True)

    assert schedules.version_at(subscription, at(2026, 10, 10, 14, 30)).plan.key == "scale"
    assert schedules.version_at(subscription, at(2026, 10, 10, 14, 29)).plan.key == "team"
    assert schedules.pending_phase(subscription, at(2026, 10, 10, 14, 44)) is None


def test_fee_in_advance_is_given_back_and_charged_to_the_second(subscription):
    """November was charged on October's invoice; on 16 November, 12:00, half of it and half a day are used."""
    october = close(subscription, 11)
    change_plan(subscription, team("scale", fee="499"), now=at(2026, 11, 16, 12), at_once=True)

    november = close(subscription, 12)

    assert lines_of(october) == [("Team plan", Decimal(49)), ("Team plan", Decimal(49))]
    # 15.5 of 30 days at $49; the rest, 14.5 days, at $499.
    assert lines_of(november) == [
        ("Team plan, unused part", Decimal("-23.683333333333")),
        ("Scale plan", Decimal("241.183333333333")),
        ("Scale plan", Decimal(499)),
    ]
    credit, charge, _ = november.lines.order_by("position")
    assert credit.explanation == (
        "$49.00 was charged in advance, $25.316666666667 of it for the time that the plan held = -$23.683333333333"
    )
    assert charge.explanation.endswith("($499.00 for 348 of 720 hours)")
    assert november.total_minor == 71650


def test_change_in_the_first_period_charges_each_plan_its_part(subscription):
    change_plan(subscription, team("scale", fee="499"), now=at(2026, 10, 11), at_once=True)

    october = close(subscription, 11)

    parts = [amount for _, amount in lines_of(october)]
    assert parts == [Decimal("15.806451612903"), Decimal("338.032258064516"), Decimal(499)]


def test_there_and_back_costs_each_plan_by_its_time(subscription, team_plan):
    close(subscription, 11)
    change_plan(subscription, team("scale", fee="300"), now=at(2026, 11, 11), at_once=True)
    change_plan(subscription, team_plan, now=at(2026, 11, 21), at_once=True)

    november = close(subscription, 12)

    assert [amount for _, amount in lines_of(november)] == [Decimal("-16.333333333334"), Decimal(100), Decimal(49)]


def test_plan_with_the_same_fee_settles_nothing(globex, subscription, team_plan):
    """A new version of the plan, at the same fee."""
    close(subscription, 11)
    draft = catalogue.copy_version(team_plan)
    change_plan(subscription, catalogue.publish_version(draft, now=NOVEMBER), now=at(2026, 11, 16), at_once=True)

    november = close(subscription, 12)

    assert lines_of(november) == [("Team plan", Decimal(49))]


def test_usage_is_split_at_the_change(globex, subscription):
    close(subscription, 11)
    use(globex, at(2026, 11, 16, 11, 59), input_tokens=3_000_000)
    use(globex, at(2026, 11, 16, 12, 0), input_tokens=5_000_000)
    half_price = catalogue.draft_version(catalogue.create_plan("half", name="Half"), currency="USD")
    catalogue.add_rate_card(half_price, label="Tokens", meters=["input_tokens"], multiplier=Decimal("0.5"))
    half_price = catalogue.publish_version(half_price, now=NOVEMBER)
    change_plan(subscription, half_price, now=at(2026, 11, 16, 12, 7), at_once=True)

    november = close(subscription, 12)

    usage = november.lines.filter(kind="usage").order_by("position")
    assert [(line.quantity, line.amount_exact) for line in usage] == [(3_000_000, 3), (5_000_000, Decimal("2.5"))]
    assert [line.explanation.split(":")[0] for line in usage] == ["Team, version 1", "Half, version 1"]
    assert november.plan_name == "Half"
    assert check_invoice(november) == []
    assert [held["plan"] for held in november.evidence["periods"][0]["plans"]] == ["team", "half"]


def test_late_usage_is_priced_by_the_plan_of_its_time(globex, subscription):
    close(subscription, 11)
    change_plan(subscription, payg(), now=at(2026, 11, 16), at_once=True)
    close(subscription, 12)
    use(globex, at(2026, 11, 20), input_tokens=2_000_000)

    bill = running_bill(subscription, at(2026, 12, 5))

    (adjustment,) = [line for line in bill.lines if line.kind == "adjustment"]
    assert adjustment.amount_exact == 2
    assert "Payg, version 1" in adjustment.explanation


def test_change_in_the_first_minutes_of_a_period_that_was_charged_already(subscription):
    """The invoice of October, made at once, charged November's fee of the old plan."""
    close_period(subscription, now=at(2026, 11, 1, 0, 1), force_grace=True)
    change_plan(subscription, team("scale", fee="499"), now=at(2026, 11, 1, 0, 5), at_once=True)

    november = close(subscription, 12)

    assert [amount for _, amount in lines_of(november)] == [Decimal(-49), Decimal(499), Decimal(499)]


def test_change_now_drops_the_one_to_come_and_later_ones_replace_earlier(subscription, team_plan):
    scale = team("scale", fee="499")
    change_plan(subscription, scale, now=at(2026, 10, 10))
    change_plan(subscription, payg(), now=at(2026, 10, 10, 1), at_once=True)
    change_plan(subscription, scale, now=at(2026, 10, 10, 1, 3), at_once=True)

    assert [phase.plan_version for phase in subscription.phases.all()] == [team_plan, scale]
    with pytest.raises(SamePlan):
        change_plan(subscription, scale, now=at(2026, 10, 10, 2), at_once=True)


def test_coming_change_can_be_withdrawn(subscription, team_plan, olivia):
    change_plan(subscription, team("scale", fee="499"), now=at(2026, 10, 10))

    withdraw_change(subscription, now=at(2026, 10, 11), actor=olivia)

    assert schedules.version_at(subscription, DECEMBER) == team_plan
    assert AuditEntry.objects.filter(action="subscription.change_withdrawn", actor=olivia).exists()
    with pytest.raises(NoChangePending):
        withdraw_change(subscription, now=at(2026, 10, 12))


def test_cancelling_now_ends_at_the_next_quarter_hour_and_gives_back_the_rest(globex, subscription):
    close(subscription, 11)
    use(globex, at(2026, 11, 16, 11, 59), input_tokens=90_000_000)
    cancelled = cancel(subscription, now=at(2026, 11, 16, 11, 50), at_once=True)

    assert cancelled.ends_at == at(2026, 11, 16, 12)
    with pytest.raises(SubscriptionOver):
        cancel(subscription, now=at(2026, 11, 16, 12))
    last = close_period(subscription, now=at(2026, 11, 17))
    assert (last.period_start, last.period_end) == (NOVEMBER, at(2026, 11, 16, 12))
    assert lines_of(last) == [
        ("Team plan, unused part", Decimal("-23.683333333333")),
        ("gpt-4o, input tokens", Decimal(90)),
    ]


def test_after_cancelling_now_another_plan_can_be_taken_anew(globex, subscription):
    cancel(subscription, now=at(2026, 10, 16, 11, 50), at_once=True)

    again = subscribe(globex, payg(), now=at(2026, 10, 16, 12))

    assert again.anchor_at == at(2026, 10, 16, 12)
    assert close_period(subscription, now=at(2026, 10, 18)).period_end == at(2026, 10, 16, 12)


def test_commitment_of_a_cut_off_period_counts_for_its_time(globex):
    version = catalogue.draft_version(catalogue.create_plan("committed", name="Committed"), currency="USD")
    catalogue.add_minimum(version, label="Commitment", amount=Decimal(310))
    subscription = subscribed(globex, catalogue.publish_version(version, now=OCTOBER), anchor=OCTOBER)
    cancel(subscription, now=at(2026, 10, 10, 23, 59), at_once=True)

    invoice = close_period(subscription, now=at(2026, 10, 20))

    assert invoice.total_minor == 10000


@pytest.mark.parametrize("at_once", [True, False])
def test_preview_is_the_bill_that_then_stands(globex, subscription, at_once):
    close(subscription, 11)
    use(globex, at(2026, 11, 10), input_tokens=2_000_000)
    scale, now = team("scale", fee="499"), at(2026, 11, 16, 12, 3)

    preview = preview_change(subscription, scale, now)

    assert preview.unchanged.total_exact == running_bill(subscription, now).total_exact
    assert subscription.phases.count() == 1
    change_plan(subscription, scale, now=now, at_once=at_once)
    outcome = preview.at_once if at_once else preview.at_period_end
    assert [(line.key, line.amount_exact) for line in outcome.bill.lines] == [
        (line.key, line.amount_exact) for line in running_bill(subscription, now).lines
    ]
    assert outcome.takes_effect_at == (at(2026, 11, 16, 12) if at_once else DECEMBER)


def test_no_line_of_an_invoice_is_there_twice_after_many_changes(subscription, team_plan):
    scale = team("scale", fee="499")
    for hour, version in enumerate([scale, team_plan, scale, payg(), team_plan]):
        change_plan(subscription, version, now=at(2026, 10, 10, hour), at_once=True)

    invoice = close(subscription, 11)

    keys = list(InvoiceLine.objects.filter(invoice=invoice).values_list("key", flat=True))
    assert len(keys) == len(set(keys))
