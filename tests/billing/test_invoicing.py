"""Closing a period: what is refused, what is frozen, what the figures are."""

import hashlib
import json
from datetime import timedelta
from decimal import Decimal

import pytest
from django.db import DatabaseError, connection, transaction
from hypothesis import given
from hypothesis import strategies as st

from accounts.models import AuditEntry
from billing.evidence import digest_of
from billing.invoicing import (
    EarlierPeriodOpen,
    NothingToClose,
    PeriodNotEnded,
    StillInGrace,
    close_ended,
    close_period,
    running_bill,
)
from billing.models import Invoice, InvoiceEmail, InvoiceLine, Price, StripeInvoice, Subscription
from billing.models.subscriptions import SubscriptionState
from billing.schedules import earliest_open_period, period_after
from billing.subscribing import cancel, change_plan
from tests import factories
from tests.billing.billing_builders import at, payg, price, subscribed, team, use

OCTOBER = at(2026, 10)
NOVEMBER = at(2026, 11)
AFTER_OCTOBER = at(2026, 11, 1, 2)
AFTER_NOVEMBER = at(2026, 12, 1, 2)


@pytest.fixture
def subscription(globex) -> Subscription:
    """globex keeps UTC, which makes for round dates."""
    price("input_tokens", "2.50", model="gpt-4o")
    price("output_tokens", "10", model="gpt-4o")
    return subscribed(globex, payg(), anchor=OCTOBER)


def test_invoice_says_what_was_used_and_what_it_costs(globex, subscription):
    use(globex, at(2026, 10, 3), input_tokens=18_059_974, output_tokens=245_896)

    invoice = close_period(subscription, now=AFTER_OCTOBER)

    assert invoice.number == "KT-2026-00001"
    assert (invoice.period_start, invoice.period_end) == (OCTOBER, NOVEMBER)
    assert invoice.total_exact == Decimal("47.608895")  # 45.149935 + 2.45896
    assert invoice.total_minor == 4761
    assert [(line.meter, line.quantity, line.amount_exact, line.amount_minor) for line in invoice.lines.all()] == [
        ("input_tokens", 18_059_974, Decimal("45.149935"), 4515),
        ("output_tokens", 245_896, Decimal("2.45896"), 246),
    ]
    assert invoice.due_at == AFTER_OCTOBER + timedelta(days=14)


def test_running_bill_equals_the_invoice_to_the_last_digit(globex, subscription):
    use(globex, at(2026, 10, 3), input_tokens=1_234_567, output_tokens=7_654_321)
    use(globex, at(2026, 10, 9), "unheard-of", input_tokens=55)

    bill = running_bill(subscription, at(2026, 10, 31))
    invoice = close_period(subscription, now=AFTER_OCTOBER)

    assert (bill.total_exact, bill.total_minor) == (invoice.total_exact, invoice.total_minor)
    rows = invoice.lines.values_list("key", "description", "quantity", "amount_exact", "amount_minor", "explanation")
    assert list(rows) == [
        (line.key, line.description, line.quantity, line.amount_exact, line.amount_minor, line.explanation)
        for line in bill.lines
    ]
    assert [reading.model for reading in bill.unpriced] == ["unheard-of"]


def test_unpriced_and_uncovered_usage_is_listed_and_parts_are_not_counted_twice(globex, subscription):
    use(globex, at(2026, 10, 3), "unheard-of", input_tokens=55)
    use(globex, at(2026, 10, 3), reasoning_tokens=9, output_tokens=10)

    invoice = close_period(subscription, now=AFTER_OCTOBER)

    assert [(row["model"], row["quantity"]) for row in invoice.evidence["unpriced"]] == [("unheard-of", "55")]
    not_charged = [(row["meter"], row["model"], row["quantity"]) for row in invoice.evidence["not_charged"]]
    assert not_charged == [("requests", "gpt-4o", "1"), ("requests", "unheard-of", "1")]
    assert not invoice.lines.filter(meter="reasoning_tokens").exists()


def test_evidence_holds_readings_prices_and_a_digest_that_can_be_recomputed(globex, subscription):
    use(globex, at(2026, 10, 3), input_tokens=1_000_000)

    invoice = close_period(subscription, now=AFTER_OCTOBER)

    period = invoice.evidence["periods"][0]
    assert invoice.evidence["cutoff"] == "2026-11-01T02:00:00Z"
    assert invoice.evidence["plan"] == {"key": "payg", "name": "Payg", "version": 1}
    assert [reading for reading in period["readings"] if reading["meter"] != "requests"] == [
        {
            "meter": "input_tokens",
            "model": "gpt-4o",
            "start": "2026-10-01T00:00:00Z",
            "end": "2026-11-01T00:00:00Z",
            "quantity": "1000000",
        }
    ]
    row = Price.objects.get(meter__key="input_tokens")
    assert [(used["id"], used["amount"]) for used in period["prices"]] == [(row.public_id, "2.5")]
    evidence = {name: value for name, value in invoice.evidence.items() if name != "digest"}
    line = invoice.lines.get()
    covered = {
        "evidence": evidence,
        "parties": invoice.parties,
        "lines": [
            {
                "key": line.key,
                "description": line.description,
                "quantity": "1000000",
                "amount_exact": "2.5",
                "amount_minor": 250,
            }
        ],
        "total_exact": "2.5",
        "total_minor": 250,
        "currency": "USD",
    }
    assert invoice.evidence["digest"] == digest_of(covered)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@given(covered=st.dictionaries(st.text(), JSON))
def test_the_digest_is_that_of_json_with_sorted_keys_and_no_spaces(covered):
    text = json.dumps(covered, sort_keys=True, separators=(",", ":"), ensure_ascii=False)

    assert digest_of(covered) == hashlib.sha256(text.encode()).hexdigest()


def test_parties_are_frozen(globex, subscription):
    use(globex, at(2026, 10, 3), input_tokens=1_000_000)
    details = globex.billing_details
    details.legal_name = "Globex Corporation"
    details.save()

    invoice = close_period(subscription, now=AFTER_OCTOBER)
    details.legal_name = "Somebody else"
    details.save()

    invoice.refresh_from_db()
    assert invoice.parties["buyer"]["name"] == "Globex Corporation"
    assert invoice.parties["seller"]["name"] == "Kilotoken"


def test_nothing_is_closed_before_its_time(subscription, settings):
    with pytest.raises(PeriodNotEnded):
        close_period(subscription, now=at(2026, 10, 31, 23))
    with pytest.raises(StillInGrace):
        close_period(subscription, now=at(2026, 11, 1, 0, 59))

    assert close_period(subscription, now=at(2026, 11, 1, 0, 59), force_grace=True).number == "KT-2026-00001"


def test_periods_are_closed_in_order(subscription):
    october = earliest_open_period(subscription)
    november = period_after(subscription, october)

    with pytest.raises(EarlierPeriodOpen):
        close_period(subscription, period=november, now=AFTER_NOVEMBER)
    assert [close_period(subscription, now=AFTER_NOVEMBER).period_start for _ in range(2)] == [OCTOBER, NOVEMBER]


def test_closing_a_closed_period_answers_with_its_invoice(globex, subscription):
    use(globex, at(2026, 10, 3), input_tokens=1_000_000)
    october = earliest_open_period(subscription)

    first = close_period(subscription, period=october, now=AFTER_OCTOBER)
    again = close_period(subscription, period=october, now=AFTER_OCTOBER)

    assert first == again
    assert Invoice.objects.count() == 1


def test_invoice_leaves_rows_for_stripe_and_for_the_mail(globex, subscription):
    use(globex, at(2026, 10, 3), input_tokens=1_000_000)

    invoice = close_period(subscription, now=AFTER_OCTOBER)

    assert StripeInvoice.objects.get(invoice=invoice).state == "waiting"
    assert InvoiceEmail.objects.get(invoice=invoice).sent_at is None
    entry = AuditEntry.objects.for_organisation(globex).get(action="invoice.finalised")
    assert entry.subject_label == invoice.number


def test_period_without_charges_is_paid_at_once_and_never_pushed(subscription):
    invoice = close_period(subscription, now=AFTER_OCTOBER)

    assert (invoice.total_minor, invoice.state, invoice.paid_at) == (0, "paid", AFTER_OCTOBER)
    assert not StripeInvoice.objects.exists()


def test_amount_too_small_to_charge_is_carried_over_exactly(globex, subscription):
    use(globex, at(2026, 10, 3), input_tokens=1)  # 0.0000025
    use(globex, at(2026, 11, 3), input_tokens=400_000)  # 1.00

    october = close_period(subscription, now=AFTER_OCTOBER)
    november = close_period(subscription, now=AFTER_NOVEMBER)

    assert [line.kind for line in october.lines.all()] == ["usage", "carry_over"]
    assert (october.total_exact, october.total_minor, october.state) == (0, 0, "paid")
    assert sum(line.amount_minor for line in october.lines.all()) == 0
    first = november.lines.first()
    assert (first.kind, first.amount_exact) == ("carry_over", Decimal("0.0000025"))
    assert october.number in first.description
    assert november.total_exact == Decimal("1.0000025")
    assert november.total_minor == 100


def test_price_change_within_a_period_prices_each_part_once(globex, subscription):
    price("input_tokens", "1.00", model="gpt-4o", valid_from=at(2026, 10, 16))
    use(globex, at(2026, 10, 15, 23, 59), input_tokens=1_000_000)
    use(globex, at(2026, 10, 16, 0, 0), input_tokens=1_000_000)

    invoice = close_period(subscription, now=AFTER_OCTOBER)

    assert [(line.unit_price, line.period_start, line.period_end) for line in invoice.lines.all()] == [
        (Decimal("2.5"), OCTOBER, at(2026, 10, 16)),
        (Decimal("1"), at(2026, 10, 16), NOVEMBER),
    ]
    assert invoice.total_minor == 350


def test_allowance_comes_off_once_per_period(globex):
    price("input_tokens", "2.00")
    subscription = subscribed(globex, payg(included={"input_tokens": Decimal(1_000_000)}), anchor=OCTOBER)
    use(globex, at(2026, 10, 3), input_tokens=600_000)
    use(globex, at(2026, 10, 20), "other", input_tokens=900_000)

    invoice = close_period(subscription, now=AFTER_OCTOBER)

    assert sum(line.included for line in invoice.lines.all()) == 1_000_000
    assert invoice.total_minor == 100


def test_fee_in_advance_is_on_the_first_bill_twice_and_then_once(globex):
    subscription = subscribed(globex, team(), anchor=OCTOBER)

    first, second = (close_period(subscription, now=AFTER_NOVEMBER) for _ in range(2))

    assert [(line.period_start, line.amount_minor) for line in first.lines.all()] == [(OCTOBER, 4900), (NOVEMBER, 4900)]
    assert [(line.period_start, line.amount_minor) for line in second.lines.all()] == [(at(2026, 12), 4900)]


def test_coming_fee_is_the_coming_plans(globex):
    subscription = subscribed(globex, payg(), anchor=OCTOBER)
    change_plan(subscription, team(), now=at(2026, 10, 20))

    invoice = close_period(subscription, now=AFTER_OCTOBER)

    assert [(line.description, line.period_start) for line in invoice.lines.all()] == [("Team plan", NOVEMBER)]


def test_last_bill_of_a_cancelled_subscription_charges_no_coming_fee(globex):
    subscription = subscribed(globex, team(), anchor=OCTOBER)
    cancel(subscription, now=at(2026, 10, 20))

    invoice = close_period(subscription, now=AFTER_OCTOBER)

    assert [line.period_start for line in invoice.lines.all()] == [OCTOBER]
    subscription.refresh_from_db()
    assert subscription.state == SubscriptionState.CANCELLED
    with pytest.raises(NothingToClose):
        close_period(subscription, now=AFTER_NOVEMBER)


def test_late_closing_gives_the_same_invoice(globex, subscription):
    """The period follows from event time and anchor, not from when a job runs."""
    use(globex, at(2026, 10, 31, 23, 59), input_tokens=1_000_000)
    use(globex, at(2026, 11, 1, 0, 0), input_tokens=7_000_000)

    invoice = close_period(subscription, now=at(2026, 12, 25))

    assert invoice.lines.get().quantity == 1_000_000


def test_zone_decides_where_a_month_ends(acme):
    """acme is in Berlin: its November ends at 23:00 UTC."""
    price("input_tokens", "1.00")
    subscription = subscribed(acme, payg(), anchor=at(2026, 10, 31, 23))
    use(acme, at(2026, 11, 30, 22, 45), input_tokens=1_000_000)
    use(acme, at(2026, 11, 30, 23, 0), input_tokens=2_000_000)

    invoice = close_period(subscription, now=at(2026, 12, 2))

    assert (invoice.period_end, invoice.total_minor) == (at(2026, 11, 30, 23), 100)


def test_sweep_closes_every_ended_period_of_everyone(globex, acme, subscription):
    other = subscribed(acme, payg("other"), anchor=NOVEMBER)

    closed = close_ended(AFTER_NOVEMBER)

    assert sorted((invoice.subscription_id, invoice.period_start) for invoice in closed.invoices) == [
        (subscription.pk, OCTOBER),
        (subscription.pk, NOVEMBER),
        (other.pk, NOVEMBER),
    ]
    assert close_ended(AFTER_NOVEMBER).invoices == []


@pytest.mark.django_db(transaction=True)
def test_one_failing_organisation_does_not_stop_the_sweep(globex, acme, subscription):
    subscription.phases.all().delete()  # as a damaged row would be
    other = subscribed(acme, payg("other"), anchor=OCTOBER)

    closed = close_ended(AFTER_OCTOBER)

    assert closed.failed == [subscription.public_id]
    assert [invoice.subscription_id for invoice in closed.invoices] == [other.pk]


def test_posted_rows_are_frozen_by_the_database(globex, subscription):
    use(globex, at(2026, 10, 3), input_tokens=1_000_000)
    invoice = close_period(subscription, now=AFTER_OCTOBER)
    refused = [
        lambda: Invoice.objects.filter(pk=invoice.pk).update(total_minor=1),
        lambda: Invoice.objects.filter(pk=invoice.pk).update(evidence={}),
        lambda: InvoiceLine.objects.filter(invoice=invoice).update(amount_minor=1),
        lambda: InvoiceLine.objects.filter(invoice=invoice).delete(),
        lambda: Price.objects.update(amount=0),
        lambda: subscription.phases.get().plan_version.components.update(multiplier=2),
        lambda: connection.cursor().execute("DELETE FROM billing_invoice"),
    ]
    for change in refused:
        with pytest.raises(DatabaseError), transaction.atomic():
            change()

    Invoice.objects.filter(pk=invoice.pk).update(state="paid", amount_paid_minor=250, paid_at=AFTER_OCTOBER)


ZONES = ["Etc/GMT+12", "America/St_Johns", "Asia/Kathmandu", "Australia/Lord_Howe", "Etc/GMT-14"]


@pytest.mark.parametrize("zone", ZONES)
def test_hourly_sweeps_bill_each_period_once_in_every_zone(gus, zone):
    """Two months with a change of clocks; hours far from a boundary are left out, since nothing can happen in them."""
    price("input_tokens", "1.00")
    organisation = factories.organisation("Somewhere", gus, time_zone=zone)
    anchor = at(2026, 3, 15, 13, 30)
    subscription = subscribed(organisation, payg(), anchor=anchor)
    for day in range(0, 60, 6):
        use(organisation, anchor + timedelta(days=day), input_tokens=1_000_000)

    for hour in [*range(24 * 30, 24 * 32), *range(24 * 60, 24 * 62)]:
        close_ended(anchor + timedelta(hours=hour))

    first, second = subscription.invoices.order_by("period_start")
    assert (first.period_start, first.period_end) == (anchor, second.period_start)
    assert first.total_exact + second.total_exact == 10
    assert not InvoiceLine.objects.filter(kind="adjustment").exists()
