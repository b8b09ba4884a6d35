"""Whole months told as stories, cent by cent. Every expected figure was worked out by hand, none by the code."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from zoneinfo import ZoneInfo

from billing.money import round_to_minor
from billing.rating import (
    FlatFee,
    Graduated,
    PerUnit,
    PriceBook,
    RateCard,
    Reading,
    Tier,
)
from tests.invoice_stories import BERLIN, MILLION, month_of, per_million, printed

BY_TOKEN = RateCard(id="tokens", label="Tokens")


def test_pay_as_you_go_by_model_and_kind_of_token() -> None:
    """Acme coded with Sonnet and chatted with Haiku, on no plan but the price book."""
    november = month_of(2026, 11)
    usage = november.used(
        {
            ("sonnet", "input_tokens"): 18_059_974,
            ("sonnet", "output_tokens"): 245_896,
            ("sonnet", "cache_read_tokens"): 2_500_000,
            ("haiku", "input_tokens"): 22_361_870,
            ("haiku", "output_tokens"): 4_088_665,
        }
    )
    prices = [
        per_million("sonnet", "input_tokens", "3"),
        per_million("sonnet", "output_tokens", "15"),
        per_million("sonnet", "cache_read_tokens", "0.30"),
        per_million("haiku", "input_tokens", "0.80"),
        per_million("haiku", "output_tokens", "4"),
    ]
    rating = november.bill(usage, [BY_TOKEN], prices)
    assert [line.explanation for line in rating.lines] == [
        "22,361,870 input tokens × $0.80 per 1,000,000 = $17.889496",
        "4,088,665 output tokens × $4.00 per 1,000,000 = $16.35466",
        "2,500,000 cache read tokens × $0.30 per 1,000,000 = $0.75",
        "18,059,974 input tokens × $3.00 per 1,000,000 = $54.179922",
        "245,896 output tokens × $15.00 per 1,000,000 = $3.68844",
    ]
    # $92.862518 in all. Rounded down the lines make $92.83; the three cents go to .9922, .9496 and .844, not to .466.
    assert rating.total_exact == Decimal("92.862518")
    assert printed(rating) == [
        ("haiku, input tokens", "$17.89"),
        ("haiku, output tokens", "$16.35"),
        ("sonnet, cache read tokens", "$0.75"),
        ("sonnet, input tokens", "$54.18"),
        ("sonnet, output tokens", "$3.69"),
        ("Total", "$92.86"),
    ]


def test_a_plan_with_a_million_tokens_included() -> None:
    """Team: $20 in advance, a million output tokens included, $12 per million after that; 1,345,678 were used."""
    november = month_of(2026, 11)
    team = [
        FlatFee(id="base", label="Team plan", amount=Decimal(20), in_advance=True),
        PerUnit(
            id="output",
            label="Output tokens",
            meter="output_tokens",
            unit_price=Decimal(12),
            scale=MILLION,
            included=MILLION,
        ),
    ]
    usage = november.used({("sonnet", "output_tokens"): 1_000_000, ("haiku", "output_tokens"): 345_678})
    rating = november.bill(usage, team)
    assert rating.lines[0].period == november.following
    assert rating.lines[1].explanation == (
        "1,345,678 output tokens, of which 1,000,000 included: 345,678 × $12.00 per 1,000,000 = $4.148136"
    )
    assert printed(rating) == [("Team plan", "$20.00"), ("Output tokens", "$4.15"), ("Total", "$24.15")]


def test_requests_that_get_cheaper_by_the_thousand() -> None:
    """12,345 requests: 1,000 at 1 c, 9,000 at 0.8 c, 2,345 at 0.5 c and $2 for reaching the last tier."""
    november = month_of(2026, 11)
    tiers = (
        Tier(Decimal(1000), Decimal("0.01")),
        Tier(Decimal(10000), Decimal("0.008")),
        Tier(None, Decimal("0.005"), flat=Decimal(2)),
    )
    plan = [Graduated(id="requests", label="Requests", meter="requests", tiers=tiers)]
    rating = november.bill(november.used({("", "requests"): 12_345}), plan)
    assert rating.lines[0].explanation == (
        "12,345 requests: first 1,000 × $0.01 = $10.00; next 9,000 × $0.008 = $72.00; "
        "next 2,345 × $0.005 + $2.00 for reaching the tier = $13.725; together $95.725"
    )
    assert printed(rating) == [("Requests", "$95.73"), ("Total", "$95.73")]  # half a cent goes up


def test_a_price_that_falls_in_the_middle_of_the_month() -> None:
    """Sonnet went from $3 to $2.40 at midnight in Berlin on 15 November. Each token costs what it cost that day."""
    november = month_of(2026, 11)
    change = datetime(2026, 11, 15, tzinfo=BERLIN)
    prices = [
        per_million("sonnet", "input_tokens", "3", until=change),
        per_million("sonnet", "input_tokens", "2.40", since=change),
    ]
    before, after = november.period.split_at(PriceBook(prices, currency="USD").boundaries(november.period))
    assert before.end == datetime(2026, 11, 14, 23, tzinfo=UTC)
    usage = [
        Reading("input_tokens", "sonnet", Decimal(7_654_321), before.start, before.end),
        Reading("input_tokens", "sonnet", Decimal(8_000_001), after.start, after.end),
    ]
    rating = november.bill(usage, [BY_TOKEN], prices)
    assert [(line.amount, line.period) for line in rating.lines] == [
        (Decimal("22.962963"), before),
        (Decimal("19.2000024"), after),
    ]
    assert printed(rating) == [
        ("sonnet, input tokens", "$22.96"),
        ("sonnet, input tokens", "$19.20"),
        ("Total", "$42.16"),
    ]


def test_fees_and_usage_at_ten_percent_off_in_euro() -> None:
    """Business: €99 for December in advance, €10 support for November, tokens at nine tenths of the list."""
    november = month_of(2026, 11, currency="EUR")
    business = [
        FlatFee(id="base", label="Business plan", amount=Decimal(99), in_advance=True),
        FlatFee(id="support", label="Support", amount=Decimal(10), in_advance=False),
        RateCard(id="tokens", label="Tokens", multiplier=Decimal("0.9")),
    ]
    prices = [
        per_million("sonnet", "input_tokens", "2.80", "EUR"),
        per_million("sonnet", "output_tokens", "14", "EUR"),
        per_million("sonnet", "input_tokens", "3.10", "USD", since=datetime(2026, 2, 1, tzinfo=UTC)),
    ]
    usage = november.used({("sonnet", "input_tokens"): 1_234_567, ("sonnet", "output_tokens"): 98_765})
    rating = november.bill(usage, business, prices)
    assert [line.amount for line in rating.lines] == [99, 10, Decimal("3.11110884"), Decimal("1.244439")]
    assert rating.lines[2].explanation == (
        "1,234,567 input tokens × €2.52 per 1,000,000 = €3.11110884 (list price €2.80 × 0.9)"
    )
    assert printed(rating) == [
        ("Business plan", "€99.00"),
        ("Support", "€10.00"),
        ("sonnet, input tokens", "€3.11"),
        ("sonnet, output tokens", "€1.25"),  # 124.4439 cents: the cent that 113.35554784 rounds up to falls here
        ("Total", "€113.36"),
    ]


def test_lines_below_a_cent_that_only_add_up_together() -> None:
    """Seven models tried with 1,500 tokens each: 0.45 cents a line, 3.15 in all. Alone each would round to zero."""
    november = month_of(2026, 11)
    models = ["a", "b", "c", "d", "e", "f", "g"]
    prices = [per_million(model, "input_tokens", "3") for model in models]
    rating = november.bill(november.used({(model, "input_tokens"): 1_500 for model in models}), [BY_TOKEN], prices)
    assert all(round_to_minor(line.amount, "USD") == 0 for line in rating.lines)
    assert [amount for _, amount in printed(rating)] == [
        *("$0.01", "$0.01", "$0.01", "$0.00", "$0.00", "$0.00", "$0.00"),
        "$0.03",
    ]
    assert rating.lines[6].explanation == "1,500 input tokens × $3.00 per 1,000,000 = $0.0045"


def test_a_month_in_yen_has_no_cents() -> None:
    """¥1,000 basic fee, 1,234,567 tokens in at ¥450 per million (¥555.55515), 76,543 out at ¥2,250 (¥172.22175)."""
    november = month_of(2026, 11, ZoneInfo("Asia/Tokyo"), "JPY")
    plan = [FlatFee(id="base", label="Basic fee", amount=Decimal(1000), in_advance=False), BY_TOKEN]
    prices = [
        per_million("sonnet", "input_tokens", "450", "JPY"),
        per_million("sonnet", "output_tokens", "2250", "JPY"),
    ]
    usage = november.used({("sonnet", "input_tokens"): 1_234_567, ("sonnet", "output_tokens"): 76_543})
    rating = november.bill(usage, plan, prices)
    assert rating.total_exact == Decimal("1727.7769")
    assert printed(rating) == [
        ("Basic fee", "¥1,000"),
        ("sonnet, input tokens", "¥556"),
        ("sonnet, output tokens", "¥172"),
        ("Total", "¥1,728"),
    ]


def test_a_month_in_dinar_ends_every_amount_in_a_zero() -> None:
    """KWD 3.069999693 and 5.116666155 make 8.186665848, charged as 8.190: the card networks know no single fils."""
    november = month_of(2026, 11, ZoneInfo("Asia/Kuwait"), "KWD")
    prices = [
        per_million("sonnet", "input_tokens", "0.921", "KWD"),
        per_million("sonnet", "output_tokens", "4.605", "KWD"),
    ]
    usage = november.used({("sonnet", "input_tokens"): 3_333_333, ("sonnet", "output_tokens"): 1_111_111})
    rating = november.bill(usage, [BY_TOKEN], prices)
    assert rating.total_exact == Decimal("8.186665848")
    assert rating.apportioned() == (8190, [3070, 5120])
    assert printed(rating)[-1] == ("Total", "KWD 8.190")


def test_a_free_month_still_shows_what_was_used() -> None:
    """The free plan includes a million input tokens; 5,000 were used. Two lines, both zero, and a bill of nothing."""
    november = month_of(2026, 11)
    free = [
        FlatFee(id="base", label="Free plan", amount=Decimal(0), in_advance=True),
        RateCard(id="tokens", label="Tokens", included={"input_tokens": MILLION}),
    ]
    usage = november.used({("haiku", "input_tokens"): 5_000})
    rating = november.bill(usage, free, [per_million("haiku", "input_tokens", "0.80")])
    assert rating.lines[1].explanation == "5,000 input tokens, all included = $0.00"
    assert printed(rating) == [("Free plan", "$0.00"), ("haiku, input tokens", "$0.00"), ("Total", "$0.00")]


def test_a_model_without_a_price_waits_and_is_then_charged_in_full() -> None:
    """Two million Sonnet tokens cost $6. Half a million of a new model have no price: not zero, but on the work list,
    until the operator gives it one from the start of the month: $10 per million."""
    november = month_of(2026, 11)
    prices = [per_million("sonnet", "input_tokens", "3")]
    usage = november.used({("sonnet", "input_tokens"): 2_000_000, ("opus-next", "input_tokens"): 500_000})
    rating = november.bill(usage, [BY_TOKEN], prices)
    assert printed(rating) == [("sonnet, input tokens", "$6.00"), ("Total", "$6.00")]
    assert [(reading.model, reading.quantity) for reading in rating.unpriced] == [("opus-next", 500_000)]

    prices.append(per_million("opus-next", "input_tokens", "10", since=november.period.start))
    rating = november.bill(usage, [BY_TOKEN], prices)
    assert rating.unpriced == ()
    assert printed(rating) == [
        ("opus-next, input tokens", "$5.00"),
        ("sonnet, input tokens", "$6.00"),
        ("Total", "$11.00"),
    ]


def test_usage_that_arrives_late_is_the_difference_of_two_bills() -> None:
    """November was closed at a million tokens, $3. Then 250,000 more arrived and 100,000 were taken back: 45 cents."""
    november = month_of(2026, 11)
    prices = [per_million("sonnet", "input_tokens", "3")]
    closed = november.bill(november.used({("sonnet", "input_tokens"): 1_000_000}), [BY_TOKEN], prices)
    corrections = [
        *november.used({("sonnet", "input_tokens"): 250_000}),
        *november.used({("sonnet", "input_tokens"): -100_000}),
    ]
    known = november.used({("sonnet", "input_tokens"): 1_000_000})
    now = november.bill([*known, *corrections], [BY_TOKEN], prices)
    assert printed(now) == [("sonnet, input tokens", "$3.45"), ("Total", "$3.45")]
    assert now.total_exact - closed.total_exact == Decimal("0.45")
    assert now.lines[0].key == closed.lines[0].key


def test_months_with_a_lost_and_a_gained_hour_charge_every_hour_once() -> None:
    """A thousand tokens each hour in New York: November 2026 has 721 hours, March 2027 has 743. $3 per million."""
    new_york = ZoneInfo("America/New_York")
    prices = [per_million("sonnet", "input_tokens", "3")]
    fee = FlatFee(id="base", label="Base", amount=Decimal(30), in_advance=False)
    for year, month, tokens, total in ((2026, 11, 721_000, "$32.16"), (2027, 3, 743_000, "$32.23")):
        billed = month_of(year, month, new_york)
        usage, instant = [], billed.period.start
        while instant < billed.period.end:
            following = instant + timedelta(hours=1)
            usage.append(Reading("input_tokens", "sonnet", Decimal(1000), instant, following))
            instant = following
        rating = billed.bill(usage, [fee, BY_TOKEN], prices)
        assert rating.lines[0].amount == 30  # the fee of a month is the fee of a month
        assert rating.lines[1].quantity == tokens
        assert printed(rating)[-1] == ("Total", total)
