"""More months told as stories: volume, packages, commitments, caps, shares. Worked out by hand, none by the code."""

from decimal import Decimal

from billing.rating import FlatFee, Maximum, Minimum, Package, Percentage, RateCard, Reading, Tier, Volume
from tests.invoice_stories import MILLION, month_of, per_million, printed


def test_volume_discount_on_a_busy_month() -> None:
    """Calls cost 1 c up to 10,000 a month and 0.7 c for all of them beyond. 9,999 cost $99.99; 10,001 only $70.01."""
    november = month_of(2026, 11)
    tiers = (Tier(Decimal(10_000), Decimal("0.01")), Tier(None, Decimal("0.007")))
    plan = [Volume(id="requests", label="Requests", meter="requests", tiers=tiers)]
    quiet = november.bill(november.used({("", "requests"): 9_999}), plan)
    busy = november.bill(november.used({("", "requests"): 10_001}), plan)
    assert printed(quiet) == [("Requests", "$99.99"), ("Total", "$99.99")]
    assert busy.lines[0].explanation == ("10,001 requests: all 10,001 × $0.007 (the price for above 10,000) = $70.007")
    assert printed(busy) == [("Requests", "$70.01"), ("Total", "$70.01")]


def test_image_packs() -> None:
    """Images are sold by the started hundred at €3.90, the first 20 free. 1,021 images: 1,001 make eleven blocks."""
    november = month_of(2026, 11, currency="EUR")
    plan = [
        Package(
            id="images",
            label="Images",
            meter="images",
            unit_price=Decimal("3.90"),
            scale=Decimal(100),
            included=Decimal(20),
        )
    ]
    rating = november.bill(november.used({("", "images"): 1_021}), plan)
    assert rating.lines[0].explanation == (
        "1,021 images, of which 20 included: 1,001 make 11 started blocks of 100 × €3.90 = €42.90"
    )
    assert printed(rating) == [("Images", "€42.90"), ("Total", "€42.90")]


def test_a_commitment_that_is_missed_by_less_than_a_cent() -> None:
    """Committed to $250 with the $50 fee counted: 66,666,665 tokens at $3 make $199.999995, so $0.000005 is missing.
    Exactly filled, the bill is $250.00 to the last digit."""
    november = month_of(2026, 11)
    plan = [
        FlatFee(id="fee", label="Support", amount=Decimal(50), in_advance=False),
        RateCard(id="tokens", label="Tokens"),
        Minimum(id="commitment", label="Commitment", amount=Decimal(250)),
    ]
    usage = november.used({("sonnet", "input_tokens"): 66_666_665})
    rating = november.bill(usage, plan, [per_million("sonnet", "input_tokens", "3")])
    assert rating.lines[2].explanation == (
        "At least $250.00 for all charges, which come to $249.999995: the rest = $0.000005"
    )
    assert rating.total_exact == 250
    assert printed(rating) == [
        ("Support", "$50.00"),
        ("sonnet, input tokens", "$200.00"),
        ("Commitment", "$0.00"),
        ("Total", "$250.00"),
    ]


def test_a_quarter_million_of_requests_under_a_cap_with_the_tokens_on_top() -> None:
    """Requests at 0.1 c, at most $200 of them a month: 250,000 come to $250, $50 come off. Tokens are not capped."""
    november = month_of(2026, 11)
    tiers = (Tier(None, Decimal("0.001")),)
    plan = [
        Volume(id="requests", label="Requests", meter="requests", tiers=tiers),
        RateCard(id="tokens", label="Tokens", meters=("input_tokens",)),
        Maximum(id="cap", label="Cap on requests", amount=Decimal(200), of=("requests",)),
    ]
    usage = november.used({("", "requests"): 250_000, ("sonnet", "input_tokens"): 1_234_567})
    rating = november.bill(usage, plan, [per_million("sonnet", "input_tokens", "3")])
    assert printed(rating) == [
        ("Requests", "$250.00"),
        ("sonnet, input tokens", "$3.70"),
        ("Cap on requests", "-$50.00"),
        ("Total", "$203.70"),
    ]


def test_a_share_of_payments_after_a_refund() -> None:
    """1.9% of payments beyond €10,000. €98,765.43 came in, €1,234.56 went back: 1.9% of €87,530.87 is €1,663.08653."""
    november = month_of(2026, 11, currency="EUR")
    plan = [
        Percentage(
            id="share",
            label="Payments",
            meter="payments",
            percent=Decimal("1.9"),
            included=Decimal(10_000),
            currency="EUR",
        )
    ]
    usage = [
        Reading("payments", "", Decimal(amount), november.period.start, november.period.end)
        for amount in ("98765.43", "-1234.56")
    ]
    rating = november.bill(usage, plan)
    assert rating.lines[0].explanation == (
        "€97,530.87 of payments, of which €10,000.00 free: 1.9% of €87,530.87 = €1,663.08653"
    )
    assert printed(rating) == [("Payments", "€1,663.09"), ("Total", "€1,663.09")]


def test_late_usage_under_a_commitment_costs_nothing_more() -> None:
    """Team: $49 a month in advance, tokens at $3 beyond two million, at least $100 in all. Ten million tokens: $24, and
    $27 to fill the rest. Five million more arrive late: $39 and $12. The difference of the two bills is zero."""
    november = month_of(2026, 11)
    team = [
        FlatFee(id="base", label="Team plan", amount=Decimal(49), in_advance=True),
        RateCard(id="tokens", label="Tokens", included={"input_tokens": 2 * MILLION}),
        Minimum(id="commitment", label="Commitment", amount=Decimal(100)),
    ]
    prices = [per_million("sonnet", "input_tokens", "3")]
    closed = november.bill(november.used({("sonnet", "input_tokens"): 10_000_000}), team, prices)
    by_now = november.bill(november.used({("sonnet", "input_tokens"): 15_000_000}), team, prices)
    assert printed(closed) == [
        ("Team plan", "$49.00"),
        ("sonnet, input tokens", "$24.00"),
        ("Commitment", "$27.00"),
        ("Total", "$100.00"),
    ]
    assert [line.amount for line in by_now.lines] == [49, 39, 12]
    assert by_now.total_exact - closed.total_exact == 0
