"""Months on price lists that AI providers have published, and on prices made from their costs. Worked out by hand.

Where a provider prices a batch or a long prompt apart, it is a model of its own here. Illustrations of the arithmetic:
lists change, and these are as they were at some time.
"""

from datetime import UTC, datetime
from decimal import Decimal
from zoneinfo import ZoneInfo

from billing.periods import QUARTER_HOUR
from billing.rating import CostPlus, PerUnit, PriceBook, PriceRow, Reading, parse_windows, rate
from tests.invoice_stories import MILLION, month_of, per_million, printed
from tests.test_worked_invoices import BY_TOKEN

YEAR = datetime(2026, 1, 1, tzinfo=UTC)


def in_windows(model: str, meter: str, amount: str, windows: str, *, since: datetime = YEAR) -> PriceRow:
    row_id = f"{model}/{meter}/{since:%m-%d}/windows"
    return PriceRow(row_id, meter, model, Decimal(amount), MILLION, since, None, "USD", parse_windows(windows))


def quarter(start: str, quantity: int, meter: str, model: str) -> Reading:
    """Used in the quarter hour that begins then, in UTC."""
    begins = datetime.fromisoformat(start).replace(tzinfo=UTC)
    return Reading(meter, model, Decimal(quantity), begins, begins + QUARTER_HOUR)


def test_cached_input_and_batches_at_openais_list() -> None:
    """GPT-4.1: $2 in, $0.50 cached, $8 out; batches at half. 24.691356 + 20 + 9.876536 + 100 + 30.617284."""
    november = month_of(2026, 11)
    prices = [
        per_million("gpt-4.1", "input_tokens", "2"),
        per_million("gpt-4.1", "cache_read_tokens", "0.50"),
        per_million("gpt-4.1", "output_tokens", "8"),
        per_million("gpt-4.1 batch", "input_tokens", "1"),
        per_million("gpt-4.1 batch", "output_tokens", "4"),
    ]
    usage = november.used(
        {
            ("gpt-4.1", "input_tokens"): 12_345_678,
            ("gpt-4.1", "cache_read_tokens"): 40_000_000,
            ("gpt-4.1", "output_tokens"): 1_234_567,
            ("gpt-4.1 batch", "input_tokens"): 100_000_000,
            ("gpt-4.1 batch", "output_tokens"): 7_654_321,
        }
    )
    rating = november.bill(usage, [BY_TOKEN], prices)
    assert rating.total_exact == Decimal("185.185176")
    assert printed(rating) == [
        ("gpt-4.1, cache read tokens", "$20.00"),
        ("gpt-4.1, input tokens", "$24.69"),
        ("gpt-4.1, output tokens", "$9.88"),
        ("gpt-4.1 batch, input tokens", "$100.00"),
        ("gpt-4.1 batch, output tokens", "$30.62"),
        ("Total", "$185.19"),
    ]


def test_cache_writes_and_long_prompts_at_anthropics_list() -> None:
    """Claude Sonnet 4.5: $3 in, $3.75 cache write, $0.30 cache read, $15 out; beyond 200K tokens $6 in and $22.50 out.
    24.000003 + 9 + 16.6666665 + 14.999985, and 9 + 0.454545 for the long prompts."""
    november = month_of(2026, 11)
    short, long = "claude-sonnet-4-5", "claude-sonnet-4-5 over 200K"
    prices = [
        per_million(short, "input_tokens", "3"),
        per_million(short, "cache_write_tokens", "3.75"),
        per_million(short, "cache_read_tokens", "0.30"),
        per_million(short, "output_tokens", "15"),
        per_million(long, "input_tokens", "6"),
        per_million(long, "output_tokens", "22.50"),
    ]
    usage = november.used(
        {
            (short, "input_tokens"): 8_000_001,
            (short, "cache_write_tokens"): 2_400_000,
            (short, "cache_read_tokens"): 55_555_555,
            (short, "output_tokens"): 999_999,
            (long, "input_tokens"): 1_500_000,
            (long, "output_tokens"): 20_202,
        }
    )
    rating = november.bill(usage, [BY_TOKEN], prices)
    assert rating.total_exact == Decimal("74.1211995")
    assert printed(rating) == [
        (f"{short}, cache read tokens", "$16.67"),
        (f"{short}, cache write tokens", "$9.00"),
        (f"{short}, input tokens", "$24.00"),
        (f"{short}, output tokens", "$15.00"),
        (f"{long}, input tokens", "$9.00"),
        (f"{long}, output tokens", "$0.45"),
        ("Total", "$74.12"),
    ]


def test_deepseeks_off_peak_hours_wrap_midnight() -> None:
    """DeepSeek Chat as listed in 2025: $0.27 in, $0.07 cached, $1.10 out; half of it from 16:30 to 00:30 UTC. The
    quarter hours on either side of both ends each used 10 million tokens in and one out."""
    november = month_of(2026, 11)
    model, off_peak = "deepseek-chat", "daily 16:30-00:30 UTC"
    lists = (
        ("input_tokens", "0.27", "0.135"),
        ("cache_read_tokens", "0.07", "0.035"),
        ("output_tokens", "1.1", ".55"),
    )
    prices = [
        row
        for meter, standard, cheap in lists
        for row in (per_million(model, meter, standard), in_windows(model, meter, cheap, off_peak))
    ]
    usage = [
        quarter(f"2026-11-05T{at}", quantity, meter, model)
        for at in ("16:15", "16:30", "00:15", "00:30")
        for meter, quantity in (("input_tokens", 10_000_000), ("output_tokens", 1_000_000))
    ]
    usage.append(quarter("2026-11-05T12:00", 3_333_333, "cache_read_tokens", model))
    usage.append(quarter("2026-11-05T20:00", 7_777_777, "cache_read_tokens", model))
    rating = november.bill(usage, [BY_TOKEN], prices)
    assert rating.total_exact == Decimal("11.905555505")
    assert printed(rating) == [
        ("deepseek-chat, cache read tokens", "$0.24"),  # 23.33331 cents: the one that 1190.56 rounds up to
        ("deepseek-chat, cache read tokens, daily 16:30-00:30 UTC", "$0.27"),
        ("deepseek-chat, input tokens", "$5.40"),
        ("deepseek-chat, input tokens, daily 16:30-00:30 UTC", "$2.70"),
        ("deepseek-chat, output tokens", "$2.20"),
        ("deepseek-chat, output tokens, daily 16:30-00:30 UTC", "$1.10"),
        ("Total", "$11.91"),
    ]


def test_peak_hours_are_twice_the_price_on_working_days_and_from_their_first_day_only() -> None:
    """$0.435 per million, twice that Mon-Fri 01:00-04:00 and 06:00-10:00 UTC from 16 November on. Five million tokens
    each on Monday the 9th at 02:00 (not yet), Friday the 20th (peak), Saturday the 21st (weekend), Monday at 04:00
    (just over): 3 x $2.175 and $4.35."""
    november = month_of(2026, 11)
    peak = "Mon-Fri 01:00-04:00, 06:00-10:00 UTC"
    prices = [
        per_million("deepseek", "input_tokens", "0.435"),
        in_windows("deepseek", "input_tokens", "0.87", peak, since=datetime(2026, 11, 16, tzinfo=UTC)),
    ]
    times = ("2026-11-09T02:00", "2026-11-20T02:00", "2026-11-21T02:00", "2026-11-23T04:00")
    usage = [quarter(at, 5_000_000, "input_tokens", "deepseek") for at in times]
    rating = november.bill(usage, [BY_TOKEN], prices)
    assert [line.amount for line in rating.lines] == [Decimal("6.525"), Decimal("4.35")]
    assert printed(rating) == [
        ("deepseek, input tokens", "$6.53"),
        (f"deepseek, input tokens, {peak}", "$4.35"),
        ("Total", "$10.88"),  # 1087.5 cents
    ]


def test_a_night_tariff_on_the_night_with_two_hours_of_two() -> None:
    """Requests at 2 c, by night (22:00-06:00 in Berlin) at half a cent. On 25 October both hours from 02:00 count as
    night: 2 x 1,111 x $0.005 = $11.11. At six it is day: 500 x $0.02 = $10."""
    october = month_of(2026, 10)
    night = parse_windows("daily 22:00-06:00 Europe/Berlin")
    plan = [
        PerUnit(id="night", label="By night", meter="requests", unit_price=Decimal("0.005"), windows=night),
        PerUnit(id="day", label="By day", meter="requests", unit_price=Decimal("0.02")),
    ]
    counts = (("2026-10-25T00:00", 1_111), ("2026-10-25T01:00", 1_111), ("2026-10-25T05:00", 500))
    usage = [quarter(at, count, "requests", "") for at, count in counts]
    rating = october.bill(usage, plan)
    assert rating.lines[0].explanation == "daily 22:00-06:00 Europe/Berlin: 2,222 requests × $0.005 = $11.11"
    assert printed(rating) == [("By night", "$11.11"), ("By day", "$10.00"), ("Total", "$21.11")]
    assert usage[0].start.astimezone(ZoneInfo("Europe/Berlin")).hour == 2


def test_provider_cost_with_a_quarter_on_top_within_a_floor_and_a_ceiling() -> None:
    """Cost x 1.25, at least $0.20 and at most $12 per million. Haiku costs $0.10: $0.20. Sonnet $3: $3.75. Opus' output
    $15: $12. 2.4691356 + 3.75001125 + 3.999996. A model without a known cost waits."""
    november = month_of(2026, 11)
    costs = [
        per_million("haiku", "input_tokens", "0.10"),
        per_million("sonnet", "input_tokens", "3"),
        per_million("opus", "output_tokens", "15"),
    ]
    plan = [CostPlus(id="cost", label="Tokens", multiplier=Decimal("1.25"), floor=Decimal("0.20"), ceiling=Decimal(12))]
    usage = november.used(
        {
            ("haiku", "input_tokens"): 12_345_678,
            ("sonnet", "input_tokens"): 1_000_003,
            ("opus", "output_tokens"): 333_333,
            ("opus-next", "output_tokens"): 1_000,
        }
    )
    rating = rate(
        usage,
        components=plan,
        prices=PriceBook([], currency="USD"),
        costs=PriceBook(costs, currency="USD"),
        period=november.period,
        fee_period=november.following,
        currency="USD",
    )
    assert rating.total_exact == Decimal("10.21914285")
    assert printed(rating) == [
        ("haiku, input tokens", "$2.47"),
        ("opus, output tokens", "$4.00"),
        ("sonnet, input tokens", "$3.75"),
        ("Total", "$10.22"),
    ]
    assert [reading.model for reading in rating.unpriced] == ["opus-next"]
