"""The final invoice of a subscription that ended: late usage after its last period was closed."""

from datetime import timedelta

import pytest

from billing.invoicing import close_period
from billing.models import Invoice, Subscription
from billing.settling import late_reach, settle, settle_ended
from billing.subscribing import cancel, subscribe
from tests.billing.billing_builders import at, payg, price, subscribed, use
from tests.metering.usage_world import event, send

pytestmark = pytest.mark.django_db
OCTOBER, NOVEMBER = at(2026, 10), at(2026, 11)
LATER = NOVEMBER + timedelta(days=37)


@pytest.fixture
def ended(globex) -> Subscription:
    """Cancelled to the end of October, when it used $10."""
    price("input_tokens", "1.00")
    subscription = subscribed(globex, payg(), anchor=OCTOBER)
    use(globex, at(2026, 10, 5), input_tokens=10_000_000)
    cancel(subscription, now=at(2026, 10, 20))
    close_period(subscription, now=at(2026, 11, 2))
    return subscription


def test_late_usage_of_an_ended_subscription_comes_on_a_final_invoice(globex, ended):
    use(globex, at(2026, 10, 30), input_tokens=7_000_000)

    (invoice,) = settle_ended(LATER).invoices

    assert (invoice.period_start, invoice.total_minor) == (NOVEMBER, 700)
    (line,) = invoice.lines.all()
    assert line.kind == "adjustment"
    assert line.description.startswith("Late usage in the period of invoice")


def test_nothing_is_settled_while_late_usage_can_come(globex, ended):
    use(globex, at(2026, 10, 30), input_tokens=7_000_000)

    assert settle_ended(NOVEMBER + late_reach() - timedelta(seconds=1)).invoices == []
    ended.refresh_from_db()
    assert ended.settled_at is None


def test_without_a_difference_there_is_no_invoice_and_it_is_settled_once(globex, ended):
    assert settle_ended(LATER).invoices == []
    ended.refresh_from_db()
    assert ended.settled_at == LATER
    use(globex, at(2026, 10, 30), input_tokens=7_000_000)

    assert settle(ended, LATER + timedelta(days=1)) is None
    assert Invoice.objects.filter(subscription=ended).count() == 1


def test_events_under_way_are_waited_for(globex, ended):
    send(event(globex.public_id, at(2026, 10, 30), model="gpt-4o", input_tokens=7_000_000), now=at(2026, 11, 20))

    assert settle_ended(LATER).waiting == {ended.public_id: "unfolded_events"}


def test_what_is_too_small_moves_to_the_next_subscription(globex, ended):
    use(globex, at(2026, 10, 30), input_tokens=100_000)
    again = subscribe(globex, payg("other"), now=at(2026, 11, 20))

    (final,) = settle_ended(LATER).invoices

    assert final.total_minor == 0
    use(globex, at(2026, 12, 10), input_tokens=1_000_000)
    assert close_period(again, now=at(2026, 12, 22)).total_minor == 110


def test_open_periods_come_first(globex):
    price("input_tokens", "1.00")
    subscription = subscribed(globex, payg(), anchor=OCTOBER)
    use(globex, at(2026, 10, 5), input_tokens=10_000_000)
    cancel(subscription, now=at(2026, 10, 20))

    assert settle_ended(LATER).invoices == []
    assert close_period(subscription, now=LATER).total_minor == 1000
