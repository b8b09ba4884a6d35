"""Credit on bills: what it pays of the running bill and of invoices, and that the ledger says what the lines say."""

from datetime import timedelta
from decimal import Decimal

import pytest
from django.db import connection
from django.db.models import Sum
from django.test.utils import CaptureQueriesContext

from billing.budgets import suggest_budget
from billing.change_previews import preview_change
from billing.couponing import redeem, save_coupon
from billing.crediting import balance, expire_grants, grant_credit
from billing.forecasting import forecast
from billing.holdings import remaining
from billing.invoicing import bill_before_credit, close_ended, close_period, running_bill
from billing.margins import compute_margins
from billing.models import (
    Coupon,
    CouponDuration,
    CreditGrant,
    GrantKind,
    Invoice,
    LedgerEntry,
    MarginDay,
    Subscription,
)
from billing.models.invoices import InvoiceState
from billing.schedules import current_period
from billing.settling import settle_ended
from billing.subscribing import cancel
from tests import factories
from tests.billing.billing_builders import at, payg, price, subscribed, team, use

pytestmark = pytest.mark.django_db
OCTOBER, NOVEMBER = at(2026, 10), at(2026, 11)
AFTER_OCTOBER, AFTER_NOVEMBER = at(2026, 11, 1, 2), at(2026, 12, 1, 2)


def credit(organisation, amount: str, **changes) -> CreditGrant:
    values = {"kind": GrantKind.MANUAL, "currency": "USD", "reason": "Goodwill", "now": OCTOBER} | changes
    return grant_credit(organisation, amount=Decimal(amount), **values)


def left_of(grant: CreditGrant) -> Decimal:
    return remaining([grant])[grant.pk]


def paid(bill: object) -> list[Decimal]:
    lines = bill.lines.all() if isinstance(bill, Invoice) else bill.lines
    return [-line.amount_exact for line in lines if line.kind == "credit"]


def in_ledger(invoice: Invoice) -> list[Decimal]:
    rows = LedgerEntry.objects.filter(transaction__invoice=invoice, account="used").order_by("pk")
    return list(rows.values_list("amount", flat=True))


@pytest.fixture
def subscription(globex) -> Subscription:
    """$10 of usage on 5 October."""
    price("input_tokens", "1.00")
    price("output_tokens", "4.00")
    subscription = subscribed(globex, payg(), anchor=OCTOBER)
    use(globex, at(2026, 10, 5), input_tokens=10_000_000)
    return subscription


def test_the_running_bill_shows_what_credit_pays_and_writes_nothing(globex, subscription):
    grant = credit(globex, "25")

    bill = running_bill(subscription, at(2026, 10, 9))

    assert (bill.total_minor, paid(bill)) == (0, [10])
    assert bill.lines[-1].key == f"credit:{grant.public_id}"
    assert bill.lines[-1].explanation == ("Credit “Goodwill” had $25.00: it pays $10.00 here, and $15.00 is left")
    assert left_of(grant) == 25
    assert bill_before_credit(subscription, at(2026, 10, 9)).total_minor == 1000


def test_an_invoice_paid_by_credit_owes_nothing_and_goes_nowhere(globex, subscription):
    grant = credit(globex, "25")

    invoice = close_period(subscription, now=AFTER_OCTOBER)

    assert (invoice.total_minor, invoice.total_exact, invoice.state) == (0, 0, InvoiceState.PAID)
    assert not hasattr(invoice, "stripe")
    assert paid(invoice) == in_ledger(invoice) == [10]
    assert left_of(grant) == 15
    assert invoice.evidence["credit"] == [{"grant": grant.public_id, "had": "25", "paid": "10"}]


def test_credit_pays_a_part_and_the_rest_is_owed(globex, subscription):
    credit(globex, "2.345")
    credit(globex, "1", priority=1)

    invoice = close_period(subscription, now=AFTER_OCTOBER)

    assert paid(invoice) == in_ledger(invoice) == [1, Decimal("2.345")]
    assert (invoice.total_exact, invoice.total_minor) == (Decimal("6.655"), 666)
    assert sum(line.amount_minor for line in invoice.lines.all()) == 666
    assert invoice.state == InvoiceState.FINALISED


def test_what_credit_leaves_too_small_is_carried_over_and_paid_by_credit_next(globex, subscription):
    credit(globex, "9.75")
    close_period(subscription, now=AFTER_OCTOBER)
    assert [line.kind for line in Invoice.objects.get().lines.all()] == ["usage", "credit", "carry_over"]
    credit(globex, "5", now=NOVEMBER)

    invoice = close_period(subscription, now=AFTER_NOVEMBER)

    assert [(line.kind, line.amount_exact) for line in invoice.lines.all()] == [
        ("carry_over", Decimal("0.25")),
        ("credit", Decimal("-0.25")),
    ]


def test_a_bill_below_zero_draws_nothing(globex):
    subscription = subscribed(globex, team(fee="49", in_advance=True), anchor=OCTOBER)
    close_period(subscription, now=AFTER_OCTOBER)
    cancel(subscription, now=at(2026, 11, 2), at_once=True)  # gives most of November's fee back
    grant = credit(globex, "5", now=NOVEMBER)

    invoice = close_period(subscription, now=AFTER_NOVEMBER)

    assert [line.kind for line in invoice.lines.all()] == ["flat_fee", "owed"]
    assert left_of(grant) == 5


def test_credit_for_a_meter_pays_its_charges_and_their_late_ones_only(globex, subscription):
    grant = credit(globex, "50", meters=["output_tokens"])
    use(globex, at(2026, 10, 6), output_tokens=1_000_000)
    first = close_period(subscription, now=AFTER_OCTOBER)
    assert (paid(first), first.total_minor) == ([4], 1000)
    use(globex, at(2026, 10, 30), output_tokens=2_000_000, input_tokens=1_000_000)

    second = close_period(subscription, now=AFTER_NOVEMBER)

    assert (paid(second), second.total_minor, left_of(grant)) == ([8], 100, 38)
    assert "it pays for output_tokens only" in second.lines.get(kind="credit").explanation


def test_discounts_come_off_before_credit(globex, subscription):
    save_coupon(Coupon(code="HALF", name="Half", percent=Decimal(50), duration=CouponDuration.FOREVER))
    redeem(subscription, "HALF", now=at(2026, 10, 8))
    grant = credit(globex, "50", meters=["input_tokens"])

    invoice = close_period(subscription, now=AFTER_OCTOBER)

    assert (paid(invoice), invoice.total_minor, left_of(grant)) == ([5], 0, 45)


def test_credit_of_another_currency_or_organisation_or_time_pays_nothing(globex, acme, subscription):
    credit(globex, "5", currency="EUR")
    credit(acme, "5")
    credit(globex, "5", effective_at=NOVEMBER)
    credit(globex, "5", now=at(2026, 9), effective_at=at(2026, 9), expires_at=OCTOBER)

    assert paid(close_period(subscription, now=AFTER_OCTOBER)) == []


# --- When credit counts -------------------------------------------------------------------------------------------


def test_credit_that_expires_while_late_events_are_waited_for_pays_the_period(globex, subscription):
    grant = credit(globex, "25", expires_at=NOVEMBER)
    assert expire_grants(NOVEMBER + timedelta(minutes=5)) == 0

    invoice = close_period(subscription, now=AFTER_OCTOBER)

    assert (paid(invoice), left_of(grant)) == ([10], 15)
    assert expire_grants(AFTER_OCTOBER) == 1
    assert left_of(grant) == 0


def test_credit_that_expires_in_the_period_pays_what_was_used_until_then(globex, subscription):
    grant = credit(globex, "25", expires_at=at(2026, 10, 10))
    use(globex, at(2026, 10, 9, 23), input_tokens=3_000_000)
    use(globex, at(2026, 10, 10, 0, 1), input_tokens=4_000_000)
    assert balance(globex, currency="USD", now=at(2026, 10, 20)) == 0
    assert expire_grants(at(2026, 10, 20)) == 0
    assert paid(running_bill(subscription, at(2026, 10, 20))) == [13]

    invoice = close_period(subscription, now=AFTER_OCTOBER)

    assert (paid(invoice), invoice.total_minor) == ([13], 400)
    assert "it has expired, and pays for what was used before that" in invoice.lines.get(kind="credit").explanation
    assert (expire_grants(AFTER_OCTOBER), left_of(grant)) == (1, 0)


def test_what_others_paid_when_it_expired_expiring_credit_does_not_pay_later(globex, subscription):
    first = credit(globex, "8", priority=1)
    expiring = credit(globex, "25", expires_at=at(2026, 10, 10))
    use(globex, at(2026, 10, 12), input_tokens=6_000_000)

    invoice = close_period(subscription, now=AFTER_OCTOBER)

    assert paid(invoice) == [8, 2]
    assert (left_of(first), left_of(expiring), invoice.total_minor) == (0, 23, 600)


def test_credit_granted_in_the_period_pays_for_all_of_it(globex, subscription):
    credit(globex, "25", now=at(2026, 10, 31))
    assert paid(close_period(subscription, now=AFTER_OCTOBER)) == [10]


def test_credit_without_a_subscription_expires_at_once(globex):
    credit(globex, "25", expires_at=at(2026, 10, 10))
    assert expire_grants(at(2026, 10, 10)) == 1


def test_expired_credit_that_waits_for_open_periods_costs_the_sweep_no_query_each(globex, subscription):
    def queries() -> int:
        with CaptureQueriesContext(connection) as captured:
            assert expire_grants(at(2026, 10, 20)) == 0
        return len(captured)

    credit(globex, "1", expires_at=at(2026, 10, 10))
    few = queries()
    for _ in range(5):
        credit(globex, "1", expires_at=at(2026, 10, 10))
    assert queries() == few


# --- Several open bills -------------------------------------------------------------------------------------------


def test_what_the_ended_period_will_use_is_not_there_for_the_running_one(globex, subscription):
    credit(globex, "12")
    use(globex, at(2026, 11, 3), input_tokens=5_000_000)
    now = at(2026, 11, 4)  # October is not closed

    assert paid(running_bill(subscription, now)) == [2]
    october = close_period(subscription, now=now)

    assert paid(october) == [10]
    assert paid(running_bill(subscription, now)) == [2]


def test_two_subscriptions_of_an_organisation_share_credit(globex, subscription):
    cancel(subscription, now=at(2026, 10, 20), at_once=True)
    second = subscribed(globex, subscription.phases.get().plan_version, anchor=at(2026, 10, 21), now=at(2026, 10, 21))
    use(globex, at(2026, 10, 22), input_tokens=5_000_000)
    grant = credit(globex, "12")

    invoices = close_ended(at(2026, 11, 22)).invoices

    assert [(invoice.subscription_id, paid(invoice)) for invoice in invoices] == [
        (subscription.pk, [10]),
        (second.pk, [2]),
    ]
    assert left_of(grant) == 0


def test_the_final_invoice_draws_on_credit(globex, subscription):
    cancel(subscription, now=at(2026, 10, 20))
    close_period(subscription, now=at(2026, 11, 2))
    use(globex, at(2026, 10, 30), input_tokens=7_000_000)
    credit(globex, "5", now=at(2026, 11, 3))

    (invoice,) = settle_ended(NOVEMBER + timedelta(days=37)).invoices

    assert (paid(invoice), in_ledger(invoice), invoice.total_minor) == ([5], [5], 200)


def test_closing_together_with_credit_costs_no_query_per_organisation(gus):
    price("input_tokens", "1.00")
    version = payg()

    def queries(count: int, prefix: str) -> int:
        for number in range(count):
            organisation = factories.organisation(f"{prefix} {number}", gus)
            factories.api_key(organisation, "key")
            use(organisation, at(2026, 10, 5), input_tokens=1_000_000)
            subscribed(organisation, version, anchor=OCTOBER)
            credit(organisation, "50")
        with CaptureQueriesContext(connection) as captured:
            close_ended(AFTER_OCTOBER)
        Subscription.objects.update(ends_at=NOVEMBER)  # out of the next sweep's way
        return len(captured)

    queries(1, "First of the year")
    few, many = queries(2, "Few"), queries(12, "Many")

    assert many == few
    assert LedgerEntry.objects.filter(account="used").aggregate(Sum("amount"))["amount__sum"] == 15


# --- What looks at charges, whoever pays --------------------------------------------------------------------------


def test_margins_budgets_forecasts_and_previews_are_before_credit(globex, subscription):
    for day in range(6, 12):
        use(globex, at(2026, 10, day), input_tokens=1_000_000)
    now = at(2026, 10, 12)
    period = current_period(subscription, now)
    other = payg("other")

    def figures() -> tuple[object, ...]:
        preview = preview_change(subscription, other, now)
        return forecast(subscription, period, now), preview.unchanged.total_minor, preview.at_once.bill.total_minor

    before = figures()
    assert before[0] is not None
    credit(globex, "100")
    assert figures() == before

    close_period(subscription, now=AFTER_OCTOBER)
    compute_margins(AFTER_OCTOBER)

    assert MarginDay.objects.aggregate(Sum("revenue"))["revenue__sum"] == 16
    suggestion = suggest_budget(subscription, None)
    assert suggestion is not None
    assert suggestion.totals_minor == (1600,)
