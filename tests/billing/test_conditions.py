"""Prices under conditions: service tiers, context lengths, cache lifetimes, regions, and which of them wins."""

from collections.abc import Mapping
from decimal import Decimal
from itertools import permutations
from typing import Any

import pytest

from billing.rating import (
    Conditions,
    InvalidContext,
    PerUnit,
    PriceBook,
    PriceRow,
    RateCard,
    Reading,
    SharedAllowance,
    labels_needed,
    labels_of,
    parse_windows,
)
from tests.billing.rating_builders import (
    HOUR,
    MILLION,
    NOVEMBER,
    THREE_TIERS,
    bill,
    graduated,
    november,
    price,
    rate_card,
)
from tests.billing.rating_builders import used as plain_use

LONG = 200_000


def used(quantity: int, meter: str = "input_tokens", model: str = "sonnet", *, day: int = 3, **labels: str) -> Reading:
    return Reading(meter, model, Decimal(quantity), november(day), november(day) + HOUR, labels)


def row(amount: str, id: str, *, model: str = "sonnet", windows: str = "", day: int = 1, **conditions: Any) -> PriceRow:
    return PriceRow(
        id,
        "input_tokens",
        model,
        Decimal(amount),
        MILLION,
        november(day),
        None,
        "USD",
        parse_windows(windows) if windows else None,
        Conditions(**conditions),
    )


def winner(rows: list[PriceRow], labels: Mapping[str, str], *, day: int = 3, hour: int = 12) -> str | None:
    book = PriceBook(rows, currency="USD")
    found = book.price("input_tokens", model="sonnet", instant=november(day, hour), labels=labels_of(labels))
    return found.id if found else None


def test_batch_price_is_for_batches_and_the_price_without_conditions_for_everything_else() -> None:
    rows = [row("3", "list"), row("1.5", "batch", service_tier="batch")]
    rating = bill(
        [used(1_000_000), used(2_000_000, service_tier="batch"), used(5, service_tier="flex")], [rate_card()], rows
    )
    assert [(line.price_row_ids, line.quantity, line.amount) for line in rating.lines] == [
        (("list",), 1_000_005, Decimal("3.000015")),
        (("batch",), 2_000_000, 3),
    ]
    assert rating.lines[1].description == "sonnet, input tokens, batch"
    assert rating.lines[1].holds_for == "batch"
    assert rating.lines[1].explanation == "2,000,000 input tokens × $1.50 per 1,000,000 = $3.00 (batch)"


def test_standard_price_is_for_usage_that_names_no_tier_or_the_default_one() -> None:
    rows = [row("3", "standard", service_tier="standard")]
    assert winner(rows, {}) == winner(rows, {"service_tier": "default"}) == "standard"
    assert winner(rows, {"service_tier": "batch"}) is None


def test_whole_request_is_priced_at_the_context_length_it_reaches() -> None:
    rows = [row("3", "list"), row("6", "long", context_above=LONG), row("8", "longer", context_above=500_000)]
    assert winner(rows, {"context_tier": "0"}) == "list"
    assert winner(rows, {"context_tier": "128000"}) == "list"
    assert winner(rows, {"context_tier": "200000"}) == "long"
    assert winner(rows, {"context_tier": "272000"}) == "long"
    assert winner(rows, {"context_tier": "500000"}) == "longer"
    assert winner(rows, {}) == "list"


def test_usage_of_unknown_context_length_meets_no_price_by_length() -> None:
    rows = [row("3", "short", context_up_to=LONG), row("6", "long", context_above=LONG)]
    assert winner(rows, {"context_tier": "128000"}) == "short"
    assert winner(rows, {"context_tier": "200000"}) == "long"
    assert winner(rows, {}) is None


def test_exact_model_beats_more_conditions_and_conditions_beat_windows_and_dates() -> None:
    all_day = "daily 00:00-00:00 UTC"
    rows = [
        row("1", "any model, batch in a region", model="", service_tier="batch", region="eu"),
        row("2", "model"),
        row("3", "model, window", windows=all_day),
        row("4", "model, later", day=2),
        row("5", "model, region", region="eu"),
        row("6", "model, batch", service_tier="batch"),
        row("7", "model, batch, window", service_tier="batch", windows=all_day),
        row("8", "model, batch in a region", service_tier="batch", region="eu"),
    ]
    labels = {"service_tier": "batch", "region": "eu"}
    expected = [
        "model, batch in a region",
        "model, batch, window",
        "model, batch",
        "model, region",
        "model, window",
        "model, later",
        "model",
        "any model, batch in a region",
    ]
    left = list(rows)
    for id in expected:
        assert winner(left, labels) == winner(left[::-1], labels) == id
        left = [one for one in left if one.id != id]


@pytest.mark.parametrize("order", list(permutations(range(4))))
def test_order_of_the_rows_does_not_matter_where_conditions_decide(order: tuple[int, ...]) -> None:
    rows = [
        row("1", "tier", service_tier="batch"),
        row("2", "context", context_above=LONG),
        row("3", "ttl", cache_ttl="1h"),
        row("4", "region", region="eu"),
    ]
    labels = {"service_tier": "batch", "context_tier": "200000", "cache_ttl": "1h", "region": "eu"}
    shuffled = [rows[place] for place in order]
    assert winner(shuffled, labels) == "tier"
    assert winner(shuffled, labels | {"service_tier": ""}) == "context"
    assert winner(shuffled, {"cache_ttl": "1h", "region": "eu"}) == "ttl"


def test_labels_that_no_price_looks_at_do_not_split_lines() -> None:
    rating = bill([used(1, region="eu"), used(2, region="us")], [rate_card()], [row("3", "list")])
    assert [line.quantity for line in rating.lines] == [3]


def test_labels_needed_are_those_of_prices_and_components() -> None:
    book = PriceBook([row("1", "a", service_tier="batch"), row("1", "b", context_up_to=LONG)], currency="USD")
    card = rate_card(only_labels=(("region", ("eu",)),), split_by=("project",))
    assert labels_needed([card], [book]) == ("context_tier", "project", "region", "service_tier")
    assert labels_needed([rate_card()], []) == ()


def test_component_prices_only_its_models_labels_and_projects() -> None:
    claude = PerUnit(id="1", label="Claude", meter="requests", unit_price=Decimal(3), only_models=("claude-*", "opus"))
    batch = PerUnit(
        id="2",
        label="Batch",
        meter="requests",
        unit_price=Decimal(1),
        only_labels=(("service_tier", ("batch", "flex")),),
    )
    lab = PerUnit(id="3", label="Lab", meter="requests", unit_price=Decimal(2), only_projects=("proj_lab",))
    rest = PerUnit(id="4", label="Rest", meter="requests", unit_price=Decimal(5))
    readings = [
        used(1, "requests", "claude-sonnet", service_tier="batch"),
        used(10, "requests", "opus"),
        used(100, "requests", "gpt", service_tier="flex", project="proj_lab"),
        used(1_000, "requests", "gpt", project="proj_lab"),
        used(10_000, "requests", "gpt", project="proj_web"),
        used(100_000, "requests", "gpt"),
    ]
    rating = bill(readings, [claude, batch, lab, rest])
    assert {line.description: line.quantity for line in rating.lines} == {
        "Claude": 11,
        "Batch": 100,
        "Lab": 1_000,
        "Rest": 110_000,
    }


def test_standard_tier_can_be_picked_by_a_component() -> None:
    standard = PerUnit(
        id="1", label="Now", meter="requests", unit_price=Decimal(1), only_labels=(("service_tier", ("standard",)),)
    )
    rating = bill([used(2, "requests"), used(3, "requests", service_tier="batch")], [standard])
    assert [line.quantity for line in rating.lines] == [2]
    assert [reading.quantity for reading in rating.uncovered] == [3]


def test_lines_can_be_kept_apart_by_project() -> None:
    card = rate_card(split_by=("project",))
    readings = [used(1_000_000, project="web"), used(2_000_000, project="lab"), used(500_000, day=9, project="web")]
    rating = bill(readings, [card], [price("3")])
    assert [(line.description, line.labels["project"], line.amount) for line in rating.lines] == [
        ("sonnet, input tokens, lab", "lab", 6),
        ("sonnet, input tokens, web", "web", Decimal("4.5")),
    ]
    assert len({line.key for line in rating.lines}) == 2


def test_meters_share_an_allowance_by_their_weights() -> None:
    """1,000 credits: input takes 1 each, output 5. 400 input take 400; 150 output would take 750: 120 are included."""
    card = rate_card(shared=SharedAllowance(Decimal(1_000), {"input_tokens": Decimal(1), "output_tokens": Decimal(5)}))
    rows = [price("3"), price("15", "output_tokens"), price("1", "requests")]
    rating = bill([plain_use(400), plain_use(150, "output_tokens"), plain_use(7, "requests")], [card], rows)
    assert {line.meter: line.included for line in rating.lines} == {
        "input_tokens": 400,
        "output_tokens": 120,
        "requests": 0,
    }


def test_own_allowance_goes_first_and_a_pool_never_covers_more_than_it_has() -> None:
    shared = SharedAllowance(Decimal(10), {"input_tokens": Decimal(3)})
    card = rate_card(included={"input_tokens": Decimal(5)}, shared=shared)
    (line,) = bill([plain_use(100)], [card], [price("3")]).lines
    assert line.included == Decimal("8.333333333333")
    assert line.included + line.billable == 100


def test_what_cannot_be_added_is_priced_from_one_reading_of_the_period() -> None:
    users = Reading("calls", "", Decimal(250), NOVEMBER.start, NOVEMBER.end, is_additive=False)
    (line,) = bill([users], [graduated(*THREE_TIERS)]).lines
    assert (line.quantity, line.amount) == (250, Decimal("17.5"))


def test_what_cannot_be_added_is_not_added_over_models() -> None:
    peaks = [
        Reading("calls", model, Decimal(quantity), NOVEMBER.start, NOVEMBER.end, is_additive=False)
        for model, quantity in (("opus", 5), ("haiku", 9))
    ]
    rating = bill(peaks, [PerUnit(id="peak", label="Peak", meter="calls", unit_price=Decimal(1))])
    assert [(line.description, line.quantity) for line in rating.lines] == [("Peak, haiku", 9), ("Peak, opus", 5)]


def test_price_of_what_cannot_be_cut_is_the_one_in_force_when_the_period_begins() -> None:
    rows = [price("2", "seats", "", id="old", scale=Decimal(1)), price("3", "seats", "", id="new", since=november(9))]
    seats = Reading("seats", "", Decimal(4), NOVEMBER.start, NOVEMBER.end, is_additive=False)
    (line,) = bill([seats], [RateCard(id="card", label="Seats")], rows).lines
    assert (line.price_row_ids, line.amount) == (("old",), 8)


@pytest.mark.parametrize(
    "bounds", [{"context_above": 5, "context_up_to": 5}, {"context_above": -1}, {"context_up_to": 0}]
)
def test_context_that_holds_for_nothing_is_refused(bounds: dict[str, int]) -> None:
    with pytest.raises(InvalidContext):
        Conditions(**bounds)
