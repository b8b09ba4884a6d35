"""Late usage of closed periods: the exact difference, once, on the next invoice."""

from decimal import Decimal

import pytest

from billing.bill_checks import check_invoice
from billing.invoicing import UnfoldedEvents, close_period, running_bill
from billing.models import Subscription
from billing.price_corrections import correct_prices
from tests.billing.billing_builders import at, payg, price, subscribed, use
from tests.metering.usage_world import correction, event, fold_all, send

SEPTEMBER = at(2026, 9)
AFTER = [at(2026, 10, 1, 2), at(2026, 11, 1, 2), at(2026, 12, 1, 2)]


@pytest.fixture
def subscription(globex) -> Subscription:
    price("input_tokens", "2.00", model="gpt-4o")
    return subscribed(globex, payg(), anchor=SEPTEMBER)


def adjustments(invoice):
    return [line for line in invoice.lines.all() if line.kind == "adjustment"]


def test_late_usage_appears_on_the_next_invoice_and_names_its_period(globex, subscription):
    use(globex, at(2026, 9, 3), input_tokens=1_000_000)
    first = close_period(subscription, now=AFTER[0])
    use(globex, at(2026, 9, 30, 23, 59), input_tokens=250_000)

    second = close_period(subscription, now=AFTER[1])

    (line,) = adjustments(second)
    assert (line.quantity, line.amount_exact, line.amount_minor) == (250_000, Decimal("0.5"), 50)
    assert first.number in line.description
    assert (line.period_start, line.period_end) == (SEPTEMBER, at(2026, 10))
    assert "difference: $0.50" in line.explanation
    assert [period["start"] for period in second.evidence["periods"]] == [
        "2026-10-01T00:00:00Z",
        "2026-09-01T00:00:00Z",
    ]


def test_late_usage_is_charged_once(globex, subscription):
    use(globex, at(2026, 9, 3), input_tokens=1_000_000)
    close_period(subscription, now=AFTER[0])
    use(globex, at(2026, 9, 29), input_tokens=500_000)
    close_period(subscription, now=AFTER[1])

    third = close_period(subscription, now=AFTER[2])

    assert adjustments(third) == []


def test_usage_that_came_in_after_the_next_closing_still_counts(globex, subscription):
    """September's late window is open until early November: October's invoice, closed on the 1st, cannot have it."""
    use(globex, at(2026, 9, 3), input_tokens=1_000_000)
    close_period(subscription, now=AFTER[0])
    close_period(subscription, now=AFTER[1])
    use(globex, at(2026, 9, 30), input_tokens=500_000)

    third = close_period(subscription, now=AFTER[2])

    assert [line.amount_exact for line in adjustments(third)] == [Decimal(1)]


def test_usage_beyond_the_late_window_is_left_alone(globex, subscription, settings):
    settings.LATE_WINDOW_DAYS = 5
    use(globex, at(2026, 9, 3), input_tokens=1_000_000)
    close_period(subscription, now=AFTER[0])
    close_period(subscription, now=AFTER[1])
    use(globex, at(2026, 9, 30), input_tokens=500_000)

    assert adjustments(close_period(subscription, now=AFTER[2])) == []


def test_late_model_without_a_line_of_its_own_becomes_one(globex, subscription):
    price("input_tokens", "4.00", model="o9")
    use(globex, at(2026, 9, 3), input_tokens=1_000_000)
    close_period(subscription, now=AFTER[0])
    use(globex, at(2026, 9, 30), "o9", input_tokens=250_000)

    (line,) = adjustments(close_period(subscription, now=AFTER[1]))

    assert (line.model, line.unit_price, line.amount_exact) == ("o9", Decimal(4), Decimal(1))


def correct(reason: str = "Listed wrongly", **more):
    return correct_prices(SEPTEMBER, at(2026, 10), reason=reason, now=at(2026, 10, 10), **more)


def test_correction_of_a_price_credits_the_difference(globex, subscription):
    """A backdated row of the price book replaces the old line by a new one: both differences, nothing rewritten."""
    use(globex, at(2026, 9, 3), input_tokens=10_000_000)
    use(globex, at(2026, 10, 3), input_tokens=10_000_000)
    close_period(subscription, now=AFTER[0])
    price("input_tokens", "1.00", model="gpt-4o")
    correct()

    second = close_period(subscription, now=AFTER[1])

    assert sorted(line.amount_exact for line in adjustments(second)) == [Decimal(-20), Decimal(10)]
    assert second.total_exact == 0  # 10 for October, 10 back for September


def test_credit_that_exceeds_the_bill_is_carried_over(globex, subscription):
    use(globex, at(2026, 9, 3), input_tokens=10_000_000)
    close_period(subscription, now=AFTER[0])
    price("input_tokens", "1.00", model="gpt-4o")
    correct()

    second = close_period(subscription, now=AFTER[1])
    use(globex, at(2026, 11, 3), input_tokens=30_000_000)
    third = close_period(subscription, now=AFTER[2])

    assert (second.total_minor, second.state) == (0, "paid")
    assert third.lines.first().amount_exact == -10
    assert third.total_exact == 20


def test_running_bill_shows_adjustments_before_they_are_invoiced(globex, subscription):
    use(globex, at(2026, 9, 3), input_tokens=1_000_000)
    close_period(subscription, now=AFTER[0])
    use(globex, at(2026, 9, 29), input_tokens=500_000)

    bill = running_bill(subscription, at(2026, 10, 20))
    invoice = close_period(subscription, now=AFTER[1])

    assert [(line.key, line.amount_exact) for line in bill.lines] == [
        (line.key, line.amount_exact) for line in invoice.lines.all()
    ]


def used(organisation, when, name, **units):
    send(event(organisation.public_id, when, event_id=name, model="gpt-4o", **units), now=when)
    fold_all(when)


def corrected(organisation, when, of, data=None):
    send(correction(organisation.public_id, of, when, data=data), now=when, backfill=False)
    fold_all(when)


def test_usage_voided_after_closing_is_credited_on_the_next_invoice(globex, subscription):
    used(globex, at(2026, 9, 3), "stays", input_tokens=1_000_000)
    used(globex, at(2026, 9, 20), "goes", input_tokens=250_000)
    first = close_period(subscription, now=AFTER[0])
    corrected(globex, at(2026, 10, 5), "goes")

    waiting = running_bill(subscription, at(2026, 10, 20))
    second = close_period(subscription, now=AFTER[1])

    (line,) = adjustments(second)
    assert (line.quantity, line.amount_exact) == (-250_000, Decimal("-0.5"))
    assert line.description.startswith(f"Corrected usage in the period of invoice {first.number}")
    assert (line.period_start, line.period_end) == (SEPTEMBER, at(2026, 10))
    assert "difference: -$0.50" in line.explanation
    assert waiting.total_exact == Decimal("-0.5")
    assert check_invoice(first) == check_invoice(second) == []
    assert adjustments(close_period(subscription, now=AFTER[2])) == []


def test_all_usage_of_a_closed_period_can_be_voided(globex, subscription):
    used(globex, at(2026, 9, 20), "goes", input_tokens=250_000)
    close_period(subscription, now=AFTER[0])
    corrected(globex, at(2026, 10, 5), "goes")

    (line,) = adjustments(close_period(subscription, now=AFTER[1]))

    assert (line.quantity, line.amount_exact) == (-250_000, Decimal("-0.5"))
    assert line.explanation.startswith("Nothing by now")


def test_usage_amended_after_closing_is_charged_by_its_difference(globex, subscription):
    used(globex, at(2026, 9, 20), "counted-short", input_tokens=250_000)
    close_period(subscription, now=AFTER[0])
    corrected(globex, at(2026, 10, 5), "counted-short", {"model": "gpt-4o", "input_tokens": 400_000})

    (line,) = adjustments(close_period(subscription, now=AFTER[1]))

    assert (line.quantity, line.amount_exact) == (150_000, Decimal("0.3"))


def test_a_correction_that_is_not_in_the_totals_yet_holds_up_the_closing(globex, subscription):
    used(globex, at(2026, 9, 20), "goes", input_tokens=250_000)
    send(correction(globex.public_id, "goes", at(2026, 10, 1)), now=at(2026, 10, 1))

    with pytest.raises(UnfoldedEvents):
        close_period(subscription, now=AFTER[0])
