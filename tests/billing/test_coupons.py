"""Coupons: what they take off, for how long, and how often they can be redeemed."""

from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal

import pytest
import time_machine
from django.db import connection

from accounts.models import AuditEntry
from billing.couponing import (
    CouponDoesNotFit,
    CouponExpired,
    CouponInvalid,
    CouponUnknown,
    CouponUsedUp,
    RedemptionOver,
    redeem,
    save_coupon,
    withdraw_redemption,
)
from billing.invoicing import close_period, running_bill
from billing.models import Coupon, CouponDuration, CouponRedemption, Subscription
from billing.subscribing import change_plan
from tests import factories
from tests.billing.billing_builders import at, payg, price, subscribed, team, use

pytestmark = pytest.mark.django_db
OCTOBER, NOVEMBER = at(2026, 10), at(2026, 11)


def coupon(code: str = "LAUNCH", **more) -> Coupon:
    values = {"name": "Launch offer", "percent": Decimal(20), "duration": CouponDuration.FOREVER} | more
    return save_coupon(Coupon(code=code, **values))


def off(code: str, amount: str, **more) -> Coupon:
    return coupon(code, percent=None, amount=Decimal(amount), currency="USD", **more)


@pytest.fixture
def subscription(globex) -> Subscription:
    """$10 of usage in October."""
    price("input_tokens", "1.00")
    subscription = subscribed(globex, payg(), anchor=OCTOBER)
    use(globex, at(2026, 10, 5), input_tokens=10_000_000)
    return subscription


def taken_off(bill) -> list[tuple[str, Decimal]]:
    return [(line.description, line.amount_exact) for line in bill.lines if line.kind == "discount"]


def test_percentage_comes_off_after_everything_and_says_how(subscription):
    coupon()
    redeem(subscription, " launch ", now=at(2026, 10, 8))

    bill = running_bill(subscription, at(2026, 10, 9))

    assert taken_off(bill) == [("Launch offer", Decimal(-2))]
    assert bill.lines[-1].explanation == "Coupon LAUNCH: 20% of $10.00 = -$2.00"
    assert bill.total_minor == 800


def test_amount_takes_off_no_more_than_there_is(subscription):
    off("BIG", "25")
    redeem(subscription, "BIG", now=at(2026, 10, 8))

    bill = running_bill(subscription, at(2026, 10, 9))

    assert taken_off(bill) == [("Launch offer", Decimal(-10))]
    assert bill.total_minor == 0


def test_coupons_come_off_one_after_the_other(subscription):
    off("FIVE", "5")
    coupon("HALF", percent=Decimal(50))
    redeem(subscription, "FIVE", now=at(2026, 10, 8))
    redeem(subscription, "HALF", now=at(2026, 10, 8))

    assert [amount for _, amount in taken_off(running_bill(subscription, at(2026, 10, 9)))] == [-5, Decimal("-2.5")]


@pytest.mark.parametrize(
    ("terms", "covered"),
    [
        ({"duration": CouponDuration.ONCE}, [True, False, False]),
        ({"duration": CouponDuration.PERIODS, "periods": 2}, [True, True, False]),
        ({"duration": CouponDuration.FOREVER}, [True, True, True]),
    ],
)
def test_coupon_holds_for_as_many_periods_as_it_says(globex, subscription, terms, covered):
    coupon(**terms)
    redeem(subscription, "LAUNCH", now=at(2026, 10, 8))
    for month in (11, 12):
        use(globex, at(2026, month, 5), input_tokens=10_000_000)

    invoices = [close_period(subscription, now=at(2027, 1, 2)) for _ in range(3)]

    assert [invoice.lines.filter(kind="discount").exists() for invoice in invoices] == covered
    assert all(invoice.total_minor == sum(line.amount_minor for line in invoice.lines.all()) for invoice in invoices)


def test_late_usage_of_a_discounted_period_is_discounted_as_well(globex, subscription):
    coupon(duration=CouponDuration.ONCE)
    redeem(subscription, "LAUNCH", now=at(2026, 10, 8))
    close_period(subscription, now=at(2026, 11, 2))
    use(globex, at(2026, 10, 30), input_tokens=5_000_000)
    use(globex, at(2026, 11, 5), input_tokens=3_000_000)

    bill = running_bill(subscription, at(2026, 11, 6))

    assert taken_off(bill) == [("Launch offer", Decimal(-1))]
    assert bill.total_minor == 700


def test_fee_given_back_is_given_back_as_it_was_paid(globex):
    """$100 in advance at 20% off, half of it unused: $40 come back."""
    subscription = subscribed(globex, team(fee="100"), anchor=OCTOBER)
    coupon()
    redeem(subscription, "LAUNCH", now=at(2026, 10, 8))
    close_period(subscription, now=at(2026, 11, 2))
    change_plan(subscription, payg("free"), now=at(2026, 11, 16), at_once=True)

    assert running_bill(subscription, at(2026, 11, 17)).total_minor == -4000


def test_coupon_is_redeemed_once_by_each_unless_more_is_allowed(globex, subscription):
    coupon(), coupon("TWICE", most_per_organisation=2)
    redeem(subscription, "LAUNCH", now=at(2026, 10, 8))
    with pytest.raises(CouponUsedUp):
        redeem(subscription, "LAUNCH", now=at(2026, 10, 9))
    assert Coupon.objects.get(code="LAUNCH").redeemed == 1

    for _ in range(2):
        redeem(subscription, "TWICE", now=at(2026, 10, 9))
    with pytest.raises(CouponUsedUp):
        redeem(subscription, "TWICE", now=at(2026, 10, 9))


def test_what_cannot_be_redeemed_says_why(globex, subscription):
    coupon("OLD", expires_at=at(2026, 10, 1))
    coupon("GONE", archived_at=at(2026, 10, 1))
    coupon("EURO", percent=None, amount=Decimal(5), currency="EUR")
    for code, error in {
        "OLD": CouponExpired,
        "GONE": CouponUnknown,
        "X": CouponUnknown,
        "EURO": CouponDoesNotFit,
    }.items():
        with pytest.raises(error):
            redeem(subscription, code, now=at(2026, 10, 8))
    assert not CouponRedemption.objects.exists()


def test_coupon_taken_away_still_holds_for_the_running_period(globex, subscription):
    coupon()
    redemption = redeem(subscription, "LAUNCH", now=at(2026, 10, 8))
    withdraw_redemption(redemption, now=at(2026, 10, 20))
    use(globex, at(2026, 11, 5), input_tokens=10_000_000)

    october, november = (close_period(subscription, now=at(2026, 12, 2)) for _ in range(2))

    assert (october.total_minor, november.total_minor) == (800, 1000)
    with pytest.raises(RedemptionOver):
        withdraw_redemption(redemption, now=at(2026, 12, 2))


def test_terms_of_a_redeemed_coupon_are_settled(subscription, operator):
    made = coupon()
    redeem(subscription, "LAUNCH", now=at(2026, 10, 8))
    made.percent = Decimal(90)
    with pytest.raises(CouponInvalid):
        save_coupon(made)

    made.percent, made.name = Decimal(20), "Launch"
    save_coupon(made, actor=operator)
    assert AuditEntry.objects.filter(action="coupon.changed", actor=operator).exists()


@pytest.mark.parametrize(
    "terms",
    [
        {"percent": Decimal(0)},
        {"percent": Decimal(101)},
        {"percent": None},
        {"amount": Decimal(5), "currency": "USD"},
        {"percent": None, "amount": Decimal(5), "currency": "XXX"},
        {"duration": CouponDuration.PERIODS},
        {"code": "with space!"},
    ],
)
def test_coupon_that_makes_no_sense_is_refused(db, terms):
    with pytest.raises(CouponInvalid):
        coupon(**terms)


@pytest.mark.django_db(transaction=True)
def test_of_many_at_once_no_more_redeem_than_the_limit_allows(gus):
    coupon(most_redemptions=3)
    version = payg()
    organisations = [factories.organisation(f"Org {number}", gus, slug=f"org-{number}") for number in range(8)]
    subscriptions = [subscribed(organisation, version, anchor=OCTOBER) for organisation in organisations]

    def attempt(subscription: Subscription) -> bool:
        try:
            redeem(subscription, "LAUNCH", now=at(2026, 10, 8))
        except CouponUsedUp:
            return False
        finally:
            connection.close()
        return True

    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(attempt, subscriptions))

    assert results.count(True) == 3
    assert CouponRedemption.objects.count() == 3
    assert Coupon.objects.get().redeemed == 3


@pytest.mark.django_db(transaction=True)
def test_of_many_at_once_by_one_organisation_one_redeems(globex):
    coupon()
    subscription = subscribed(globex, payg(), anchor=OCTOBER)

    def attempt(_: int) -> bool:
        try:
            redeem(subscription, "LAUNCH", now=at(2026, 10, 8))
        except CouponUsedUp:
            return False
        finally:
            connection.close()
        return True

    with ThreadPoolExecutor(6) as pool:
        assert list(pool.map(attempt, range(6))).count(True) == 1


def test_code_is_redeemed_on_the_plan_page(client_for, gus, globex, subscription):
    coupon()
    client = client_for(gus)
    with time_machine.travel(at(2026, 10, 8), tick=False):
        client.post("/o/globex/plan/coupon/", {"code": "launch"})
        page = client.get("/o/globex/plan/").content.decode()
        refused = client.post("/o/globex/plan/coupon/", {"code": "nonsense"}, follow=True).content.decode()

    assert "Launch offer" in page
    assert "20% off" in page
    assert "There is no coupon with this code." in refused
    assert AuditEntry.objects.for_organisation(globex).get(action="coupon.redeemed").actor == gus
