"""Months in which a subscription itself changes, told as stories, cent by cent: closed by the real verbs, from metered
calls. Every expected figure was worked out by hand, none by the code."""

from datetime import timedelta
from decimal import Decimal

import pytest

from billing import catalogue
from billing.couponing import redeem, save_coupon
from billing.invoicing import close_period
from billing.models import Coupon, CreditGrant, Invoice, PlanVersion, Subscription
from billing.money import format_money
from billing.resting import end_pause, pause
from billing.subscribing import cancel, change_plan, subscribe
from tests.billing.billing_builders import LONG_AGO, at, meter, payg, price, subscribed, use

pytestmark = pytest.mark.django_db
MILLION = 1_000_000


def plan(key: str, *, fee: str, included: int = 0, per_million: str = "1", least: str = "") -> PlanVersion:
    """A fee in advance, input tokens with an allowance, and perhaps a commitment on them."""
    version = catalogue.draft_version(catalogue.create_plan(key, name=key.title(), is_public=True), currency="USD")
    catalogue.add_flat_fee(version, label=f"{key.title()} plan", amount=Decimal(fee), in_advance=True)
    tokens = catalogue.add_per_unit(
        version,
        label="Input tokens",
        meter=meter("input_tokens"),
        unit_price=Decimal(per_million),
        scale=Decimal(MILLION),
        included=Decimal(included),
    )
    if least:
        catalogue.add_minimum(version, label="Commitment", amount=Decimal(least), of=[tokens])
    return catalogue.publish_version(version, now=LONG_AGO)


def close(subscription: Subscription, month: int, year: int = 2026) -> Invoice:
    return close_period(subscription, now=at(year, month, 1) + timedelta(days=1))


def printed(invoice: Invoice) -> list[tuple[str, str]]:
    """The invoice as the customer reads it."""
    lines = invoice.lines.order_by("position")
    money = [(line.description, format_money(line.amount_minor, invoice.currency)) for line in lines]
    return [*money, ("Total", format_money(invoice.total_minor, invoice.currency))]


def exact(invoice: Invoice) -> list[Decimal]:
    return [line.amount_exact for line in invoice.lines.order_by("position")]


def not_charged(invoice: Invoice) -> list[str]:
    readings = invoice.evidence["not_charged"]
    return [reading["quantity"] for reading in readings if reading["meter"] == "input_tokens"]


def said(invoice: Invoice) -> list[str]:
    return [line.explanation for line in invoice.lines.order_by("position")]


def test_a_larger_plan_in_the_middle_of_the_month(globex):
    """Globex changes from Small to Large at 12:07 on 16 November: from 12:00, after 15.5 of 30 days.

    Fees: $30 for Small were paid with October; 14.5/30 come back, 14.5/30 of Large's $90 are owed, and December's $90.
    Allowance: 15.5/30 of 2,000,000 = 1,033,333 and the rest of 6,000,000 after 3,100,000 = 2,900,000; 3,933,333 in all.
    The first calls take 2,000,000 of it, all that Small promised for the month, and 1,933,333 are left for Large.
    So on Small 5,500,000 - 2,000,000 = 3,500,000 at $1 = $3.50; the call at 11:59 is one of Small's.
    On Large 10,000,000 - 1,933,333 = 8,066,667 at $0.80 = $6.4533336; the call at 12:01 is one of Large's.
    Commitment: 15.5/30 of $20 and 14.5/30 of $100 are $10.333333333333 + $48.333333333333; $9.9533336 of it is met.
    """
    subscription = subscribed(globex, plan("small", fee="30", included=2 * MILLION, least="20"), anchor=at(2026, 10))
    assert printed(close(subscription, 11)) == [
        ("Small plan", "$30.00"),
        ("Small plan", "$30.00"),
        ("Commitment", "$20.00"),
        ("Total", "$80.00"),
    ]
    use(globex, at(2026, 11, 5), input_tokens=3 * MILLION)
    use(globex, at(2026, 11, 16, 11, 59), input_tokens=2_500_000)
    use(globex, at(2026, 11, 16, 12, 1), input_tokens=10 * MILLION)
    large = plan("large", fee="90", included=6 * MILLION, per_million="0.80", least="100")
    change_plan(subscription, large, now=at(2026, 11, 16, 12, 7), at_once=True)

    november = close(subscription, 12)

    assert exact(november) == [
        Decimal("-14.5"),
        Decimal("43.5"),
        Decimal(90),
        Decimal("3.5"),
        Decimal("6.4533336"),
        Decimal("48.713333066666"),
    ]
    assert printed(november) == [
        ("Small plan, unused part", "-$14.50"),
        ("Large plan", "$43.50"),
        ("Large plan", "$90.00"),
        ("Input tokens", "$3.50"),
        ("Input tokens", "$6.46"),  # .33336 of a cent is more than .3333066666, so the odd cent is here
        ("Commitment", "$48.71"),
        ("Total", "$177.67"),
    ]


def test_a_trial_that_ends_in_the_middle_of_the_month(globex):
    """Two weeks on trial from 1 November: 16 of 30 days are charged, $16 of the fee of $30, and December's with it.

    4,000,000 tokens in the trial cost nothing and use nothing up. Of the allowance of 1,000,000 there are 16/30 left,
    which is 1,000,000 less the 466,667 of the trial: 533,333. Of 2,500,000 used then 1,966,667 are charged at $1.
    """
    team = plan("team", fee="30", included=MILLION)
    subscription = subscribe(globex, team, now=at(2026, 11), trial_days=14, actor="test")
    use(globex, at(2026, 11, 14, 23, 59), input_tokens=4 * MILLION)
    use(globex, at(2026, 11, 15, 0, 1), input_tokens=2_500_000)

    november = close(subscription, 12)

    assert exact(november) == [Decimal(16), Decimal(30), Decimal("1.966667")]
    assert printed(november) == [
        ("Team plan", "$16.00"),
        ("Team plan", "$30.00"),
        ("Input tokens", "$1.97"),
        ("Total", "$47.97"),
    ]
    assert not_charged(november) == ["4000000"]


def test_a_pause_of_two_weeks(globex):
    """Paused at 9:05 on 10 November, so from 9:15, until 18:10 on the 25th, so until 18:00: 368.75 of 720 hours.

    351.25 hours of November's $30, paid with October's invoice, are kept: $14.635416666667; $15.364583333333 come back.
    2,000,000 tokens before and 1,000,000 after cost $1 a million; a million in between is metered and costs nothing.
    """
    subscription = subscribed(globex, plan("team", fee="30"), anchor=at(2026, 10))
    close(subscription, 11)
    use(globex, at(2026, 11, 10, 9, 10), input_tokens=2 * MILLION)
    pause(subscription, now=at(2026, 11, 10, 9, 5))
    use(globex, at(2026, 11, 20), input_tokens=MILLION)
    end_pause(subscription, now=at(2026, 11, 25, 18, 10))
    use(globex, at(2026, 11, 25, 18, 1), input_tokens=MILLION)

    november = close(subscription, 12)

    assert exact(november) == [Decimal("-15.364583333333"), Decimal(30), Decimal(2), Decimal(1)]
    assert printed(november) == [
        ("Team plan, unused part", "-$15.36"),
        ("Team plan", "$30.00"),
        ("Input tokens", "$2.00"),
        ("Input tokens", "$1.00"),
        ("Total", "$17.64"),
    ]
    assert not_charged(november) == ["1000000"]


def test_a_coupon_for_two_months_that_runs_out(globex):
    """A quarter off October and November: of $10.01, $2.5025, and of $4.444444, $1.111111. December is charged in full.

    Amounts are rounded once: $7.5075 to $7.51, $3.333333 to $3.33.
    """
    price("input_tokens", "1.00")
    subscription = subscribed(globex, payg(), anchor=at(2026, 10))
    save_coupon(Coupon(code="LAUNCH", name="Launch offer", percent=Decimal(25), duration="periods", periods=2))
    redeem(subscription, "LAUNCH", now=at(2026, 10, 20))
    for month, tokens in ((10, 10_010_000), (11, 4_444_444), (12, 7_000_000)):
        use(globex, at(2026, month, 5), input_tokens=tokens)

    october, november, december = close(subscription, 11), close(subscription, 12), close(subscription, 1, 2027)

    assert [exact(one)[-1] for one in (october, november)] == [Decimal("-2.5025"), Decimal("-1.111111")]
    assert said(november)[-1] == "Coupon LAUNCH: 25% of $4.444444 = -$1.111111"
    assert [printed(one)[1:] for one in (october, november, december)] == [
        [("Launch offer", "-$2.50"), ("Total", "$7.51")],
        [("Launch offer", "-$1.11"), ("Total", "$3.33")],
        [("Total", "$7.00")],
    ]


def test_cancelled_in_the_middle_of_the_month(globex):
    """Cancelled at 11:50 on 16 November, so at 12:00, after 15.5 of 30 days, with December's fee not charged yet.

    $25.316666666667 of November's $49 are used, and $23.683333333333 come back. Half of the allowance is left:
    15.5/30 of 2,000,000 = 1,033,333, so of 5,000,000 tokens 3,966,667 are charged: $3.966667. A commitment of $6
    counts for its time: $3.10, which is met. -$23.683333333333 + $3.966667 = -$19.716666333333: $19.72 is owed.
    What is left of a cent is rounded once.
    """
    team = plan("team", fee="49", included=2 * MILLION, least="6")
    subscription = subscribed(globex, team, anchor=at(2026, 10))
    close(subscription, 11)
    use(globex, at(2026, 11, 10), input_tokens=5 * MILLION)
    cancel(subscription, now=at(2026, 11, 16, 11, 50), at_once=True)

    last = close(subscription, 12)

    assert exact(last) == [Decimal("-23.683333333333"), Decimal("3.966667"), Decimal("19.72")]
    assert printed(last) == [
        ("Team plan, unused part", "-$23.69"),  # down to -2,369 and 396 cents; the odd one goes to .6667, not .66666666
        ("Input tokens", "$3.97"),
        ("Owed to you, kept as credit", "$19.72"),
        ("Total", "$0.00"),
    ]
    assert (last.period_end, CreditGrant.objects.get().amount) == (at(2026, 11, 16, 12), Decimal("19.72"))
