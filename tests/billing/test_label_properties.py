"""What holds of labelled usage and conditional prices whatever the figures: order, cutting, halves, and who wins."""

from collections.abc import Sequence
from decimal import Decimal
from itertools import groupby
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from billing.money import CURRENCIES, EXACT, apportion, currency_named, exact_sum, round_to_minor
from billing.periods import Period
from billing.rating import (
    Component,
    Conditions,
    CostPlus,
    Percentage,
    PerUnit,
    PriceBook,
    PriceRow,
    RateCard,
    Rating,
    Reading,
    SharedAllowance,
    labels_of,
    parse_windows,
    rate,
)
from tests.billing.rating_builders import HOUR, LONG_AGO, MILLION, NOVEMBER, november

MODELS = ("", "opus", "sonnet-4", "sonnet-5")
METERS = ("input_tokens", "output_tokens", "USD")
PEAK = parse_windows("Mon-Fri 08:00-20:00 Europe/Berlin")
PRICES = [
    PriceRow(f"{meter}/{place}", meter, model, Decimal(amount), MILLION, LONG_AGO, None, "USD", windows, conditions)
    for meter in METERS[:2]
    for place, (model, amount, windows, conditions) in enumerate(
        [
            ("", "2", None, Conditions()),
            ("", "1", None, Conditions(service_tier="batch")),
            ("opus", "5.5", None, Conditions()),
            ("opus", "11", None, Conditions(context_above=200_000)),
            ("sonnet-4", "3.3", None, Conditions()),
            ("sonnet-4", "4.7", PEAK, Conditions()),
            ("sonnet-4", "0.7", PEAK, Conditions(service_tier="batch", region="eu")),
        ]
    )
]
# Whatever is priced by the unit, so that a month is the sum of its parts.
LINEAR: tuple[Component, ...] = (
    PerUnit(id="1", label="Lab", meter="output_tokens", unit_price=Decimal("0.01"), only_projects=("lab",)),
    Percentage(id="2", label="Share", meter="USD", percent=Decimal("2.9"), currency="USD"),
    CostPlus(id="3", label="Cost", multiplier=Decimal("1.3"), only_models=("sonnet-*",), meters=METERS[:2]),
    RateCard(id="4", label="List", meters=METERS[:2], split_by=("project",), multiplier=Decimal("0.9")),
)
POOLED = (
    RateCard(
        id="card",
        label="Tokens",
        included={"input_tokens": Decimal(1000)},
        shared=SharedAllowance(Decimal(5_000), {"input_tokens": Decimal(1), "output_tokens": Decimal(3)}),
    ),
)
CUTS = PriceBook(PRICES, currency="USD").boundaries(NOVEMBER)

labels = st.fixed_dictionaries(
    {},
    optional={
        "service_tier": st.sampled_from(["batch", "standard", "priority"]),
        "context_tier": st.sampled_from(["0", "128000", "200000"]),
        "region": st.sampled_from(["eu", "us"]),
        "project": st.sampled_from(["lab", "shop"]),
    },
)
readings = st.builds(
    lambda meter, model, quantity, hour, labels: Reading(
        meter,
        model,
        quantity,
        NOVEMBER.start + hour * HOUR,
        NOVEMBER.start + (hour + 1) * HOUR,
        labels,
    ),
    st.sampled_from(METERS),
    st.sampled_from(MODELS),
    st.decimals(-5_000, 500_000, places=3),
    st.integers(0, 30 * 24 - 1),
    labels,
)
reading_lists = st.lists(readings, max_size=25)


def rated(used: Sequence[Reading], components: Sequence[Component] = LINEAR, period: Period = NOVEMBER) -> Rating:
    book = PriceBook(PRICES, currency="USD")
    return rate(used, components=components, prices=book, costs=book, period=period, fee_period=None, currency="USD")


@given(used=reading_lists, plan=st.sampled_from([LINEAR, POOLED]), random=st.randoms(use_true_random=False))
def test_order_of_labelled_readings_changes_nothing(used: list[Reading], plan: Any, random: Random) -> None:
    shuffled = list(used)
    random.shuffle(shuffled)
    assert rated(shuffled, plan) == rated(used, plan)


@given(used=reading_lists, day=st.integers(2, 29))
def test_parts_of_a_month_add_up_to_the_month(used: list[Reading], day: int) -> None:
    halves = Period(NOVEMBER.start, november(day)), Period(november(day), NOVEMBER.end)
    parts = [rated([reading for reading in used if half.contains(reading.start)], period=half) for half in halves]
    whole = rated(used)
    assert exact_sum(part.total_exact for part in parts) == whole.total_exact
    assert sum(len(part.unpriced) + len(part.uncovered) for part in parts) == len(whole.unpriced) + len(whole.uncovered)


@given(used=reading_lists)
def test_labels_that_nothing_looks_at_change_no_line(used: list[Reading]) -> None:
    more = [
        Reading(one.meter, one.model, one.quantity, one.start, one.end, {**one.labels, "colour": str(place)})
        for place, one in enumerate(used)
    ]
    assert rated(more).lines == rated(used).lines


@given(used=reading_lists)
def test_every_labelled_unit_is_on_one_line_or_listed(used: list[Reading]) -> None:
    result = rated(used)
    left = exact_sum(one.quantity for one in (*result.unpriced, *result.uncovered))
    assert exact_sum(line.quantity for line in result.lines) + left == exact_sum(one.quantity for one in used)
    keys = [line.key for line in result.lines]
    assert len(keys) == len(set(keys))


@given(used=reading_lists)
def test_a_shared_allowance_gives_no_more_than_it_has(used: list[Reading]) -> None:
    weights = {"input_tokens": Decimal(1), "output_tokens": Decimal(3)}
    lines = rated(used, POOLED).lines
    taken = exact_sum(EXACT.multiply(line.included, weights[line.meter]) for line in lines)
    assert taken <= 6_000
    assert all(line.included + line.billable == line.quantity for line in lines)


conditions = st.builds(
    Conditions,
    service_tier=st.sampled_from(["", "", "batch"]),
    context_above=st.sampled_from([None, None, 128_000, 200_000]),
    region=st.sampled_from(["", "", "eu"]),
)
row_values = st.tuples(
    st.sampled_from(["sonnet-4", ""]), st.integers(1, 28), st.none() | st.integers(1, 10), st.booleans(), conditions
)


@given(rows=st.lists(row_values, max_size=10), hour=st.integers(0, 40 * 24), labels=labels)
def test_book_answers_as_a_search_through_all_rows_and_conditions_does(
    rows: list[Any], hour: int, labels: dict[str, str]
) -> None:
    book = [
        PriceRow(
            str(place),
            "input_tokens",
            model,
            Decimal(place),
            MILLION,
            november(day),
            days and november(day + days),
            "USD",
            PEAK if is_windowed else None,
            conditions,
        )
        for place, (model, day, days, is_windowed, conditions) in enumerate(rows)
    ]
    instant = NOVEMBER.start + hour * HOUR
    holding = [
        ((bool(row.model), row.conditions.rank, row.windows is not None, row.valid_from, place), row)
        for place, row in enumerate(book)
        if row.valid_from <= instant
        and (row.valid_until is None or instant < row.valid_until)
        and row.conditions.hold_for(labels_of(labels))
        and (row.windows is None or row.windows.contains(instant))
    ]
    expected = max(holding, key=lambda one: one[0])[1] if holding else None
    found = PriceBook(book, currency="USD").price(
        "input_tokens", model="sonnet-4", instant=instant, labels=labels_of(labels)
    )
    assert found == expected


EXPONENTS = sorted(
    next(code for code, _ in group)
    for _, group in groupby(
        sorted(
            ((one.code, (one.decimals, one.charged_decimals)) for one in CURRENCIES.values()), key=lambda pair: pair[1]
        ),
        key=lambda pair: pair[1],
    )
)


@pytest.mark.parametrize("currency", EXPONENTS)
@pytest.mark.parametrize("seed", range(5))
def test_up_to_a_thousand_random_lines_add_up_in_currencies_of_every_exponent(currency: str, seed: int) -> None:
    random = Random(f"{currency}{seed}")
    count = random.choice([1, 2, 10, 333, 1000])
    amounts = [Decimal(random.randrange(-(10**9), 10**12)).scaleb(-random.randrange(13)) for _ in range(count)]
    total, shares = apportion(amounts, currency)
    assert total == round_to_minor(exact_sum(amounts), currency)
    assert sum(shares) == total
    rule = currency_named(currency)
    for amount, share in zip(amounts, shares, strict=True):
        assert share % rule.step == 0
        assert abs(amount.scaleb(rule.decimals) - share) < rule.step


def test_prices_of_these_tests_change_within_the_days() -> None:
    assert len(CUTS) > 40
