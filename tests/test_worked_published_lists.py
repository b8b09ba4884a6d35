"""Months on the lists that AI providers publish, cent by cent. Each is also computed call by call by genai-prices,
whose figures the bill must meet exactly; so a change of that package's data shows here, too."""

from decimal import Decimal

from tests.invoice_stories import month_of, printed
from tests.published_stories import Calls, bill_published

SHORT, LONG = 272_000, 272_001  # tokens: as long as the short tier goes, and one more


def test_cached_input_and_batches_of_gpt_4_1() -> None:
    """$2 in, $0.50 cached, $8 out, batches at half: 8.642 + 32.1 + 6 + 6.216 + 9.827736."""
    calls = [
        Calls("gpt-4.1", "2026-11-03T09:00", 4_321, 777, read=12_000, times=1_000),
        Calls("gpt-4.1", "2026-11-20T22:15", 100_000, 7_654, times=321, tier="batch"),
    ]
    rating = bill_published(month_of(2026, 11), "openai", calls)
    assert rating.total_exact == Decimal("62.785736")
    assert printed(rating) == [
        ("gpt-4.1, input tokens", "$8.64"),
        ("gpt-4.1, input tokens, batch", "$32.10"),
        ("gpt-4.1, cache read tokens", "$6.00"),
        ("gpt-4.1, output tokens", "$6.22"),
        ("gpt-4.1, output tokens, batch", "$9.83"),
        ("Total", "$62.79"),
    ]


def test_flex_and_priority_of_gpt_5() -> None:
    """$1.25 and $10; flex at half, priority at twice that. 500 calls as usual, 120 in a hurry, 900 that can wait."""
    calls = [
        Calls("gpt-5", "2026-11-03T09:00", 10_001, 2_003, times=500),
        Calls("gpt-5", "2026-11-04T10:00", 10_001, 2_003, times=120, tier="priority"),
        Calls("gpt-5", "2026-11-05T03:30", 10_001, 2_003, read=40_000, times=900, tier="flex"),
    ]
    rating = bill_published(month_of(2026, 11), "openai", calls)
    assert rating.total_exact == Decimal("40.9621875")
    assert printed(rating) == [
        ("gpt-5, input tokens", "$6.25"),
        ("gpt-5, input tokens, flex", "$5.63"),
        ("gpt-5, input tokens, priority", "$3.00"),
        ("gpt-5, cache read tokens, flex", "$2.25"),
        ("gpt-5, output tokens", "$10.01"),
        ("gpt-5, output tokens, priority", "$4.81"),
        ("gpt-5, output tokens, flex", "$9.01"),
        ("Total", "$40.96"),
    ]


def test_one_token_more_doubles_the_price_of_the_whole_request() -> None:
    """GPT-5.4: $2.50 up to 272,000 tokens of prompt, $5 beyond; cached tokens count for the length. Three calls of
    exactly 272,000 cost $2.04, three of one token more $4.08 and a trifle."""
    calls = [
        Calls("gpt-5.4", "2026-11-10T11:45", SHORT, 1_000, times=3),
        Calls("gpt-5.4", "2026-11-10T11:45", LONG, 1_000, times=3),
        Calls("gpt-5.4", "2026-11-11T11:45", 12_001, 1_000, read=260_000, times=7),
        Calls("gpt-5.4", "2026-11-12T11:45", 300_000, 5_000, times=2, tier="batch"),
    ]
    rating = bill_published(month_of(2026, 11), "openai", calls)
    assert rating.total_exact == Decimal("9.33255")
    assert printed(rating) == [
        ("gpt-5.4, input tokens", "$2.04"),
        ("gpt-5.4, input tokens, context above 272,000 tokens", "$4.50"),
        ("gpt-5.4, input tokens, batch, context above 272,000 tokens", "$1.50"),
        ("gpt-5.4, cache read tokens, context above 272,000 tokens", "$0.91"),
        ("gpt-5.4, output tokens", "$0.05"),
        ("gpt-5.4, output tokens, context above 272,000 tokens", "$0.22"),
        ("gpt-5.4, output tokens, batch, context above 272,000 tokens", "$0.11"),
        ("Total", "$9.33"),
    ]


def test_caches_of_five_minutes_and_of_an_hour_and_long_prompts_of_claude_sonnet() -> None:
    """$3 in, $0.30 read, $3.75 written for five minutes, $6 for an hour, $15 out; beyond 200,000 tokens $6, $0.60 and
    $22.50; batches at half."""
    model = "claude-sonnet-4-5"
    calls = [
        Calls(model, "2026-11-02T08:00", 1_500, 900, read=180_000, times=400),
        Calls(model, "2026-11-02T08:00", 2_000, 900, written=150_000, times=11),
        Calls(model, "2026-11-02T12:00", 2_000, 900, written=150_000, times=5, ttl="1h"),
        Calls(model, "2026-11-03T08:00", 1_500, 900, read=199_000, times=40),
        Calls(model, "2026-11-04T08:00", 150_000, 4_000, times=25, tier="batch"),
    ]
    rating = bill_published(month_of(2026, 11), "anthropic", calls)
    assert rating.total_exact == Decimal("52.1205")
    assert printed(rating) == [
        (f"{model}, input tokens", "$1.90"),
        (f"{model}, input tokens, context above 200,000 tokens", "$0.36"),
        (f"{model}, input tokens, batch", "$5.62"),
        (f"{model}, cache read tokens", "$21.60"),
        (f"{model}, cache read tokens, context above 200,000 tokens", "$4.78"),
        (f"{model}, cache write tokens", "$6.19"),
        (f"{model}, cache write tokens, 1h cache", "$4.50"),
        (f"{model}, output tokens", "$5.61"),
        (f"{model}, output tokens, context above 200,000 tokens", "$0.81"),
        (f"{model}, output tokens, batch", "$0.75"),
        ("Total", "$52.12"),
    ]


def test_surcharge_for_long_prompts_that_ends_in_the_middle_of_the_month() -> None:
    """Claude Opus 4.6 in March 2026: prompts beyond 200,000 tokens cost $10 and $37.50 until the 13th, then $5 and $25
    like all others. Ten calls of 250,000 in and 4,000 out on either side: 25 + 1.5, then 12.5 + 1."""
    calls = [Calls("claude-opus-4-6", f"2026-03-{day}T12:00", 250_000, 4_000, times=10) for day in ("12", "13")]
    rating = bill_published(month_of(2026, 3), "anthropic", calls)
    assert printed(rating) == [
        ("claude-opus-4-6, input tokens, context above 200,000 tokens", "$25.00"),
        ("claude-opus-4-6, input tokens", "$12.50"),
        ("claude-opus-4-6, output tokens, context above 200,000 tokens", "$1.50"),
        ("claude-opus-4-6, output tokens", "$1.00"),
        ("Total", "$40.00"),
    ]


def test_long_prompts_and_batches_of_gemini() -> None:
    """Gemini 2.5 Pro: $1.25 and $10, beyond 200,000 tokens $2.50 and $15; batches at half, long ones too."""
    calls = [
        Calls("gemini-2.5-pro", "2026-11-02T08:00", 200_000, 3_333, times=17),
        Calls("gemini-2.5-pro", "2026-11-02T08:00", 200_001, 3_333, times=17),
        Calls("gemini-2.5-pro", "2026-11-02T09:00", 201_000, 3_333, times=10, tier="batch"),
    ]
    rating = bill_published(month_of(2026, 11), "google", calls)
    assert rating.total_exact == Decimal("16.9290425")
    assert printed(rating) == [
        ("gemini-2.5-pro, input tokens", "$4.25"),
        ("gemini-2.5-pro, input tokens, context above 200,000 tokens", "$8.50"),
        ("gemini-2.5-pro, input tokens, batch, context above 200,000 tokens", "$2.51"),
        ("gemini-2.5-pro, output tokens", "$0.57"),
        ("gemini-2.5-pro, output tokens, context above 200,000 tokens", "$0.85"),
        ("gemini-2.5-pro, output tokens, batch, context above 200,000 tokens", "$0.25"),
        ("Total", "$16.93"),
    ]


def test_deepseek_chat_on_both_sides_of_its_cheap_hours() -> None:
    """$0.27, $0.07 and $1.10 from 00:30 to 16:30 UTC, half of it otherwise. 333 calls in each of the quarter hours
    before and after both ends, on two days."""
    calls = [
        Calls("deepseek-chat", f"2026-11-{day}T{at}", 20_000, 1_000, read=5_000, times=333)
        for day in ("07", "08")
        for at in ("00:15", "00:30", "16:15", "16:30")
    ]
    rating = bill_published(month_of(2026, 11), "deepseek", calls)
    by_day = "daily 00:30-16:30 UTC"
    assert rating.total_exact == Decimal("13.6863")
    assert printed(rating) == [
        ("deepseek-chat, input tokens", "$3.60"),
        (f"deepseek-chat, input tokens, {by_day}", "$7.19"),
        ("deepseek-chat, cache read tokens", "$0.23"),
        (f"deepseek-chat, cache read tokens, {by_day}", "$0.47"),
        ("deepseek-chat, output tokens", "$0.73"),
        (f"deepseek-chat, output tokens, {by_day}", "$1.47"),
        ("Total", "$13.69"),
    ]


def test_deepseek_flash_in_the_month_in_which_its_list_changed() -> None:
    """DeepSeek v4 Flash in September 2026: $0.22 in until the 10th, then $0.15; $0.30 at peak throughout."""
    calls = [
        Calls("deepseek-v4-flash", f"2026-09-{day}T{at}", 1_000_000, 0, times=10)
        for day in ("09", "10")
        for at in ("00:45", "01:00", "03:45", "04:00", "06:00", "10:00")
    ]
    rating = bill_published(month_of(2026, 9), "deepseek", calls)
    assert printed(rating) == [
        ("deepseek-v4-flash, input tokens", "$6.60"),
        ("deepseek-v4-flash, input tokens, daily 01:00-04:00 UTC", "$12.00"),
        ("deepseek-v4-flash, input tokens, daily 06:00-10:00 UTC", "$6.00"),
        ("deepseek-v4-flash, input tokens", "$4.50"),
        ("Total", "$29.10"),
    ]
