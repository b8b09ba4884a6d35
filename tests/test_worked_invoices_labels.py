"""Months in which usage is told apart by more than its model: credits shared by meters, projects, tiers, and totals
that are no sums. Worked out by hand."""

from decimal import Decimal

from billing.rating import (
    Conditions,
    FlatFee,
    Graduated,
    Maximum,
    PerUnit,
    PriceRow,
    RateCard,
    Reading,
    SharedAllowance,
    Tier,
)
from tests.invoice_stories import MILLION, Month, month_of, per_million, printed


def labelled(month: Month, meter: str, quantity: int, model: str = "sonnet", **labels: str) -> Reading:
    (reading,) = month.used({(model, meter): quantity})
    return Reading(meter, model, reading.quantity, reading.start, reading.end, labels)


def test_a_plan_with_ten_million_credits_for_all_tokens() -> None:
    """Input takes one credit, output five. 7 million in take 7; of 1 million out 600,000 fit into the other 3 million.
    400,000 x $15 = $6, and the fee of $20."""
    november = month_of(2026, 11)
    credits = SharedAllowance(Decimal(10_000_000), {"input_tokens": Decimal(1), "output_tokens": Decimal(5)})
    plan = [
        FlatFee(id="fee", label="Credits", amount=Decimal(20), in_advance=False),
        RateCard(id="card", label="Tokens", shared=credits),
    ]
    prices = [per_million("sonnet", "input_tokens", "3"), per_million("sonnet", "output_tokens", "15")]
    usage = november.used({("sonnet", "input_tokens"): 7_000_000, ("sonnet", "output_tokens"): 1_000_000})
    rating = november.bill(usage, plan, prices)
    assert printed(rating) == [
        ("Credits", "$20.00"),
        ("sonnet, input tokens", "$0.00"),
        ("sonnet, output tokens", "$6.00"),
        ("Total", "$26.00"),
    ]
    assert rating.lines[2].explanation == (
        "1,000,000 output tokens, of which 600,000 included: 400,000 × $15.00 per 1,000,000 = $6.00"
    )


def test_three_cost_centres_on_one_bill() -> None:
    """$3 a million: lab 1,111,111 = $3.333333, shop 2,222,222 = $6.666666, nobody's 333,333 = $0.999999. Together
    $10.999998, which is $11.00; the cent that rounding down leaves goes to the largest remainder."""
    november = month_of(2026, 11)
    plan = [RateCard(id="card", label="Tokens", split_by=("project",))]
    usage = [
        labelled(november, "input_tokens", 1_111_111, project="lab"),
        labelled(november, "input_tokens", 2_222_222, project="shop"),
        labelled(november, "input_tokens", 333_333),
    ]
    rating = november.bill(usage, plan, [per_million("sonnet", "input_tokens", "3")])
    assert rating.total_exact == Decimal("10.999998")
    assert printed(rating) == [
        ("sonnet, input tokens", "$1.00"),
        ("sonnet, input tokens, lab", "$3.33"),
        ("sonnet, input tokens, shop", "$6.67"),
        ("Total", "$11.00"),
    ]


def test_batches_by_tier_of_the_month_and_everything_else_by_the_list() -> None:
    """Batches of any Claude: the first 10 million at $1.50, the rest at $1. 25 million: 15 + 15. Other use at $3; what
    no price says about GPT waits."""
    november = month_of(2026, 11)
    plan = [
        Graduated(
            id="batches",
            label="Batches",
            meter="input_tokens",
            scale=MILLION,
            tiers=(Tier(Decimal(10_000_000), Decimal("1.50")), Tier(None, Decimal(1))),
            only_models=("claude-*",),
            only_labels=(("service_tier", ("batch",)),),
        ),
        RateCard(id="card", label="Tokens"),
    ]
    usage = [
        labelled(november, "input_tokens", 20_000_000, "claude-sonnet", service_tier="batch"),
        labelled(november, "input_tokens", 5_000_000, "claude-haiku", service_tier="batch"),
        labelled(november, "input_tokens", 2_000_000, "claude-sonnet"),
        labelled(november, "input_tokens", 7, "gpt", service_tier="batch"),
    ]
    rating = november.bill(usage, plan, [per_million("claude-sonnet", "input_tokens", "3")])
    assert printed(rating) == [
        ("Batches", "$30.00"),
        ("claude-sonnet, input tokens", "$6.00"),
        ("Total", "$36.00"),
    ]
    assert [reading.model for reading in rating.unpriced] == ["gpt"]


def test_seats_of_a_month_under_a_cap() -> None:
    """47 different users at $12 are $564: capped at $500. A user seen in ten projects is one."""
    november = month_of(2026, 11)
    plan = [
        PerUnit(id="1", label="Users", meter="users", unit_price=Decimal(12)),
        Maximum(id="2", label="No more than", amount=Decimal(500)),
    ]
    period = november.period
    users = Reading("users", "", Decimal(47), period.start, period.end, is_additive=False)
    rating = november.bill([users], plan)
    assert printed(rating) == [("Users", "$564.00"), ("No more than", "-$64.00"), ("Total", "$500.00")]


def test_a_european_region_costs_a_tenth_more_and_batches_what_batches_cost() -> None:
    """$3, batches $1.50, in the EU $3.30. Of batches in the EU nothing is said: a service tier goes before a region."""
    november = month_of(2026, 11)

    def price(amount: str, **conditions: str) -> PriceRow:
        name = "/".join(conditions.values()) or "list"
        since = november.period.start
        return PriceRow(
            name, "input_tokens", "sonnet", Decimal(amount), MILLION, since, None, "USD", None, Conditions(**conditions)
        )

    prices = [price("3"), price("1.5", service_tier="batch"), price("3.3", region="eu")]
    usage = [
        labelled(november, "input_tokens", 1_000_000),
        labelled(november, "input_tokens", 1_000_000, service_tier="batch"),
        labelled(november, "input_tokens", 1_000_000, region="eu"),
        labelled(november, "input_tokens", 1_000_000, region="eu", service_tier="batch"),
    ]
    rating = november.bill(usage, [RateCard(id="card", label="Tokens")], prices)
    assert printed(rating) == [
        ("sonnet, input tokens", "$3.00"),
        ("sonnet, input tokens, eu", "$3.30"),
        ("sonnet, input tokens, batch", "$3.00"),
        ("Total", "$9.30"),
    ]
