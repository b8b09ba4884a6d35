"""Months paid by credit, told as stories, cent by cent: closed by the real verbs, from metered calls. Every expected
figure was worked out by hand, none by the code."""

from decimal import Decimal

import pytest

from billing import catalogue
from billing.credit_checks import check_credits
from billing.crediting import expire_grants, grant_credit
from billing.models import CreditGrant, GrantKind, PlanVersion
from billing.plan_credits import grant_due_credit
from tests.billing.billing_builders import LONG_AGO, at, payg, price, subscribed, use
from tests.test_worked_invoices_subscriptions import close, exact, printed, said

pytestmark = pytest.mark.django_db
MILLION = 1_000_000


@pytest.fixture(autouse=True)
def _prices() -> None:
    price("input_tokens", "2.50", model="gpt-4o")
    price("output_tokens", "10.00", model="gpt-4o")


def credit(organisation, amount: str, *, kind: str, reason: str, now, **changes) -> None:
    grant_credit(organisation, amount=Decimal(amount), currency="USD", kind=kind, reason=reason, now=now, **changes)


def became(organisation) -> list[tuple[str, Decimal, Decimal, Decimal]]:
    """Of each grant: its reason, what was used, what is left and what expired."""
    grants = CreditGrant.objects.for_organisation(organisation).with_sums().order_by("pk")
    return [(grant.reason, grant.used, grant.left, grant.expired) for grant in grants]


def test_a_promotion_that_expires_in_the_middle_of_the_month(globex):
    """Globex has $10 that expire on 16 November and $3 of goodwill without an end.

    Until the 16th 2,345,678 input tokens at $2.50 come to $5.864195: the promotion would pay all of it.
    After it 1,234,567 more come to $3.0864175. The promotion pays nothing of that, the goodwill its $3.
    $8.9506125 - $5.864195 - $3 = $0.0864175 is too small to charge and moves to December.
    Of the promotion $10 - $5.864195 = $4.135805 expires, once November is closed.
    """
    subscription = subscribed(globex, payg(), anchor=at(2026, 11))
    starts, ends = at(2026, 11), at(2026, 11, 16)
    credit(globex, "10", kind=GrantKind.PROMOTIONAL, reason="Welcome", now=starts, expires_at=ends)
    credit(globex, "3", kind=GrantKind.MANUAL, reason="Goodwill", now=starts)
    use(globex, at(2026, 11, 4), input_tokens=2_345_678)
    use(globex, at(2026, 11, 20), input_tokens=1_234_567)
    assert expire_grants(at(2026, 11, 21)) == 0

    november = close(subscription, 12)

    assert exact(november) == [Decimal("8.9506125"), Decimal("-5.864195"), Decimal(-3), Decimal("-0.0864175")]
    assert printed(november) == [
        ("gpt-4o, input tokens", "$8.95"),
        ("Credit: Welcome", "-$5.86"),
        ("Credit: Goodwill", "-$3.00"),
        ("Carried over to the next invoice", "-$0.09"),
        ("Total", "$0.00"),
    ]
    assert said(november)[1:3] == [
        "Promotional credit “Welcome” had $10.00: it pays $5.864195 here, and $4.135805 is left; it has expired, and "
        "pays for what was used before that",
        "Credit “Goodwill” had $3.00: it pays $3.00 here, and $0.00 is left",
    ]
    assert expire_grants(at(2026, 12, 2)) == 1
    assert became(globex) == [
        ("Welcome", Decimal("5.864195"), 0, Decimal("4.135805")),
        ("Goodwill", 3, 0, 0),
    ]
    assert check_credits() == []


def test_credit_bought_for_output_tokens_and_late_usage(globex):
    """Globex bought $20 that pay for output tokens only.

    October: 3,000,000 input at $2.50 = $7.50 and 1,250,000 output at $10 = $12.50. Credit pays $12.50; $7.50 is owed.
    After the invoice, 100,000 input and 300,000 output of October come in: $0.25 + $3.00.
    November: 1,000,000 input = $2.50 and 600,000 output = $6.00. Of the $9.00 for output credit pays its last $7.50.
    $2.50 + $6.00 + $0.25 + $3.00 - $7.50 = $4.25.
    """
    subscription = subscribed(globex, payg(), anchor=at(2026, 10))
    credit(globex, "20", kind=GrantKind.PURCHASED, reason="Top-up", now=at(2026, 10, 2), meters=["output_tokens"])
    use(globex, at(2026, 10, 5), input_tokens=3 * MILLION, output_tokens=1_250_000)

    october = close(subscription, 11)

    assert printed(october) == [
        ("gpt-4o, input tokens", "$7.50"),
        ("gpt-4o, output tokens", "$12.50"),
        ("Credit: Top-up", "-$12.50"),
        ("Total", "$7.50"),
    ]
    use(globex, at(2026, 10, 31), input_tokens=100_000, output_tokens=300_000)
    use(globex, at(2026, 11, 5), input_tokens=MILLION, output_tokens=600_000)

    november = close(subscription, 12)

    late = f"Late usage in the period of invoice {october.number}: gpt-4o"
    assert printed(november) == [
        ("gpt-4o, input tokens", "$2.50"),
        ("gpt-4o, output tokens", "$6.00"),
        (f"{late}, input tokens", "$0.25"),
        (f"{late}, output tokens", "$3.00"),
        ("Credit: Top-up", "-$7.50"),
        ("Total", "$4.25"),
    ]
    assert became(globex) == [("Top-up", 20, 0, 0)]
    assert check_credits() == []


def pro() -> PlanVersion:
    """$20 in advance; $20 of usage come with it, of which $8 at most stay for the next month."""
    version = catalogue.draft_version(catalogue.create_plan("pro", name="Pro", is_public=True), currency="USD")
    catalogue.add_flat_fee(version, label="Pro plan", amount=Decimal(20), in_advance=True)
    catalogue.add_rate_card(version, label="Tokens", meters=["input_tokens"])
    version.credit_amount, version.credit_rolls_for, version.credit_most_rolled = Decimal(20), 1, Decimal(8)
    version.save()
    return catalogue.publish_version(version, now=LONG_AGO)


def test_usage_that_comes_with_a_plan_and_stays_for_a_month(globex):
    """Globex is on Pro: $20 in advance, $20 of usage a month, of which $8 at most stay for one more month.

    October: 2,600,000 input at $2.50 = $6.50, all paid. Of the $13.50 left $8 stay and $5.50 lapse. Fees are not paid
    by it: October's and November's $20 are owed.
    November: 11,000,000 = $27.50: October's $8 first, since they end first, then $19.50 of November's; $0.50 stay.
    December: 9,876,543 = $24.6913575, less $0.50 and $20: $4.1913575 and January's $20 make $24.1913575.
    """
    subscription = subscribed(globex, pro(), anchor=at(2026, 10))
    use(globex, at(2026, 10, 5), input_tokens=2_600_000)
    assert printed(close(subscription, 11)) == [
        ("Pro plan", "$20.00"),
        ("Pro plan", "$20.00"),
        ("gpt-4o, input tokens", "$6.50"),
        ("Credit: Included in Pro", "-$6.50"),
        ("Total", "$40.00"),
    ]
    assert became(globex)[0] == ("Included in Pro", Decimal("6.5"), 8, Decimal("5.5"))

    grant_due_credit(at(2026, 11))
    use(globex, at(2026, 11, 5), input_tokens=11 * MILLION)
    november = close(subscription, 12)

    assert printed(november) == [
        ("Pro plan", "$20.00"),
        ("gpt-4o, input tokens", "$27.50"),
        ("Credit: Included in Pro", "-$8.00"),
        ("Credit: Included in Pro", "-$19.50"),
        ("Total", "$20.00"),
    ]
    assert said(november)[3] == (
        "Credit “Included in Pro” had $20.00: it pays $19.50 here, and $0.50 is left; it pays for usage only"
    )

    use(globex, at(2026, 12, 5), input_tokens=9_876_543)
    december = close(subscription, 1, year=2027)

    assert exact(december) == [Decimal(20), Decimal("24.6913575"), Decimal("-0.5"), Decimal(-20)]
    assert printed(december)[1:] == [
        ("gpt-4o, input tokens", "$24.69"),
        ("Credit: Included in Pro", "-$0.50"),
        ("Credit: Included in Pro", "-$20.00"),
        ("Total", "$24.19"),
    ]
    assert check_credits() == []
