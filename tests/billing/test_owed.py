"""Who cancels and has paid too much: the last bill says what is owed; it is credit until used or paid back."""

from datetime import timedelta
from decimal import Decimal

import pytest
import time_machine

from accounts.models import AuditEntry
from billing.adjustments import carried_in
from billing.change_previews import preview_cancellation
from billing.cockpit import cockpit
from billing.credit_statement import GrantStatus, grant_states
from billing.crediting import NothingLeft, grant_credit, pay_back
from billing.invoicing import close_ended, close_period
from billing.models import CreditGrant, GrantKind, Invoice, Subscription
from billing.models.invoices import InvoiceState
from billing.owed import owed_to_those_who_left
from billing.settling import late_reach, settle
from billing.subscribing import cancel, subscribe
from tests.billing.billing_builders import at, payg, price, subscribed, team, use

pytestmark = pytest.mark.django_db
LEFT_AT = at(2026, 11, 16, 12)


@pytest.fixture
def subscription(globex) -> Subscription:
    """$49 for November were paid with October's invoice."""
    price("input_tokens", "1.00")
    subscription = subscribed(globex, team(), anchor=at(2026, 10))
    close_period(subscription, now=at(2026, 11, 2))
    return subscription


def leave(subscription: Subscription) -> Invoice:
    """Half past eleven on 16 November: 15.5 of 30 days are used, $23.683333333333 comes back."""
    cancel(subscription, now=LEFT_AT - timedelta(minutes=10), at_once=True)
    return close_period(subscription, now=at(2026, 11, 17))


def owed_gauge():
    (gauge,) = [one for one in cockpit(at(2026, 11, 18)).money if one.label == "Owed to customers who left"]
    return gauge


def test_last_bill_says_what_is_owed_and_comes_to_nothing(globex, subscription):
    last = leave(subscription)

    unused, owed = last.lines.order_by("position")
    assert (unused.amount_exact, owed.kind) == (Decimal("-23.683333333333"), "owed")
    assert (owed.amount_exact, owed.amount_minor, last.total_minor) == (Decimal("23.68"), 2368, 0)
    assert "$23.68 is owed to you" in owed.explanation
    assert last.state == InvoiceState.PAID
    (state,) = grant_states(globex, at(2026, 11, 18))
    assert (state.left, state.grant.kind, state.grant.reason) == (
        Decimal("23.68"),
        GrantKind.OWED,
        f"Owed from invoice {last.number}",
    )
    assert carried_in(subscription) == []  # owed once


def test_what_was_used_is_taken_off_before(globex, subscription):
    use(globex, at(2026, 11, 10), input_tokens=20_000_000)

    last = leave(subscription)

    assert CreditGrant.objects.get().amount == Decimal("3.68")
    assert [line.kind for line in last.lines.order_by("position")] == ["flat_fee", "usage", "owed"]


def test_nothing_is_owed_where_the_last_bill_charges_something(globex, subscription):
    use(globex, at(2026, 11, 10), input_tokens=90_000_000)

    assert leave(subscription).total_minor == 6632
    assert not CreditGrant.objects.exists()
    assert owed_gauge().value == "nothing"


def test_who_cancels_with_the_period_is_owed_nothing(subscription):
    cancel(subscription, now=LEFT_AT)

    assert close_period(subscription, now=at(2026, 12, 2)).total_minor == 0
    assert not CreditGrant.objects.exists()


def test_less_than_a_cent_moves_on_as_ever(globex, subscription):
    """$49 x 14.5/30 less 23.68 of usage leaves a third of a cent."""
    use(globex, at(2026, 11, 10), input_tokens=23_680_000)

    last = leave(subscription)

    assert [line.kind for line in last.lines.order_by("position")][-1] == "carry_over"
    assert not CreditGrant.objects.exists()


def test_another_plan_is_paid_with_it(globex, subscription):
    leave(subscription)
    again = subscribe(globex, payg(), now=at(2026, 11, 20), actor="test")
    use(globex, at(2026, 11, 21), input_tokens=30_000_000)

    bill = close_period(again, now=at(2026, 12, 21))

    assert [(line.kind, line.amount_exact) for line in bill.lines.order_by("position")] == [
        ("usage", Decimal(30)),
        ("credit", Decimal("-23.68")),
    ]
    assert bill.total_minor == 632
    assert not owed_to_those_who_left().exists()


def test_operators_see_who_left_and_note_that_it_was_paid_back(globex, subscription, operator, client_for):
    leave(subscription)
    assert (owed_gauge().value, owed_gauge().mood) == ("$23.68", "warn")
    grant = CreditGrant.objects.get()
    client = client_for(operator)
    listed = client.get("/admin/billing/creditgrant/?owed=left").content.decode()
    assert grant.public_id in listed

    address = f"/admin/billing/creditgrant/{grant.pk}/payment/"
    asked = client.get(address).content.decode()
    assert "Was $23.68 paid back" in asked
    assert "Give a reason." in client.post(address, {"confirmed": "yes"}).content.decode()
    client.post(address, {"confirmed": "yes", "reason": "SEPA 4711"})

    (state,) = grant_states(globex, at(2026, 11, 19))
    assert (state.left, state.reversed, state.status) == (0, Decimal("23.68"), GrantStatus.PAID_BACK)
    entry = AuditEntry.objects.get(action="credit.paid_back")
    assert (entry.details["reference"], entry.details["amount"]) == ("SEPA 4711", "23.68")
    assert owed_gauge().value == "nothing"
    with pytest.raises(NothingLeft):
        pay_back(grant, reference="again", now=at(2026, 11, 19))


def test_bought_credit_of_those_who_left_is_owed_too_and_given_credit_is_not(globex, subscription):
    for kind in (GrantKind.PURCHASED, GrantKind.PROMOTIONAL):
        grant_credit(globex, kind=kind, amount=Decimal(50), currency="USD", reason="Some", now=at(2026, 11, 3))
    assert not owed_to_those_who_left().exists()

    leave(subscription)

    assert owed_gauge().value == "$73.68"


def test_late_usage_after_the_end_is_paid_with_what_is_owed(globex, subscription):
    leave(subscription)
    with time_machine.travel(at(2026, 11, 18), tick=False):
        use(globex, at(2026, 11, 15), input_tokens=2_000_000)

    final = settle(subscription, LEFT_AT + late_reach())

    assert [(line.kind, line.amount_exact) for line in final.lines.order_by("position")] == [
        ("adjustment", Decimal(2)),
        ("credit", Decimal(-2)),
    ]
    assert owed_gauge().value == "$21.68"


def test_the_sweep_keeps_what_is_owed_as_well(subscription):
    cancel(subscription, now=LEFT_AT - timedelta(minutes=10), at_once=True)

    close_ended(at(2026, 11, 17))

    assert CreditGrant.objects.get().amount == Decimal("23.68")


def test_cancelling_says_before_what_the_last_bill_comes_to(globex, subscription, gus, client_for):
    use(globex, at(2026, 11, 10), input_tokens=20_000_000)
    now = LEFT_AT - timedelta(minutes=10)

    preview = preview_cancellation(subscription, now)
    with time_machine.travel(now, tick=False):
        page = client_for(gus).get("/o/globex/plan/cancellation/").content.decode()

    assert (preview.at_once.bill.total_minor, preview.at_period_end.bill.total_minor) == (-368, 2000)
    assert "gives you <strong>$3.68</strong> back" in page
    assert "comes to <strong>$20.00</strong>" in page
    subscription.refresh_from_db()
    assert subscription.ends_at is None
    assert leave(subscription).lines.get(kind="owed").amount_exact == Decimal("3.68")


def test_bill_page_says_what_will_be_owed(subscription, gus, client_for):
    cancel(subscription, now=LEFT_AT - timedelta(minutes=10), at_once=True)
    with time_machine.travel(LEFT_AT, tick=False):
        page = client_for(gus).get("/o/globex/bill/").content.decode()

    assert "This last bill gives back <strong>$23.68</strong>" in page
