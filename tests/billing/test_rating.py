"""Rating as a whole: what must not change an amount, and what is refused."""

from dataclasses import replace
from decimal import ROUND_UP, Context, Decimal, localcontext
from itertools import pairwise
from time import perf_counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from billing.money import InvalidAmount, UnknownCurrency
from billing.periods import EmptyPeriod, NaiveInstant, Period
from billing.rating import (
    Component,
    DuplicateComponent,
    DuplicatePriceRow,
    FlatFee,
    PerUnit,
    PriceBook,
    PriceBookCurrencyDiffers,
    PriceRow,
    Reading,
    ReadingOutsidePeriod,
    Tier,
    rate,
)
from tests.billing.rating_builders import (
    HOUR,
    MILLION,
    NOVEMBER,
    THREE_TIERS,
    bill,
    graduated,
    november,
    per_unit,
    price,
    rate_card,
    used,
)

READING_MODELS = ("sonnet", "haiku", "mystery", "")
WHOLE_PLAN: tuple[Component, ...] = (
    FlatFee(id="base", label="Base", amount=Decimal("19.99"), in_advance=True),
    per_unit("0.0003", included=Decimal(10)),
    graduated(*THREE_TIERS, included=Decimal(5)),
    rate_card(
        meters=("input_tokens", "output_tokens"), included={"input_tokens": Decimal(700)}, multiplier=Decimal("1.1")
    ),
)
WHOLE_BOOK = (
    price("3"),
    price("2.5", since=november(11), id="cheaper"),
    price("15", "output_tokens"),
    price("0.8", model="haiku"),
    price("7", "output_tokens", "", id="any", until=november(21)),
)
readings_lists = st.lists(
    st.builds(
        lambda meter, model, quantity, hour: Reading(
            meter, model, quantity, NOVEMBER.start + hour * HOUR, NOVEMBER.start + (hour + 1) * HOUR
        ),
        st.sampled_from(["input_tokens", "output_tokens", "requests", "calls", "seconds"]),
        st.sampled_from(READING_MODELS),
        st.decimals(-100, 1000, places=6) | st.just(Decimal(0)),
        st.integers(0, 30 * 24 - 1),
    ),
    max_size=25,
)


@given(readings=readings_lists, random=st.randoms(use_true_random=False))
def test_order_of_readings_changes_nothing(readings: list[Reading], random: Any) -> None:
    shuffled = list(readings)
    random.shuffle(shuffled)
    rating, other = bill(readings, WHOLE_PLAN, WHOLE_BOOK), bill(shuffled, WHOLE_PLAN, WHOLE_BOOK)
    assert other.lines == rating.lines
    assert [line.explanation for line in other.lines] == [line.explanation for line in rating.lines]
    assert sorted(map(str, other.unpriced)) == sorted(map(str, rating.unpriced))
    assert str(other.total_exact) == str(rating.total_exact)


@given(readings=readings_lists, data=st.data())
def test_cutting_readings_finer_changes_no_line(readings: list[Reading], data: st.DataObject) -> None:
    finer = []
    for reading in readings:
        part = data.draw(st.decimals(-1000, 1000, places=6))
        middle = reading.start + HOUR / 4
        finer.append(replace(reading, quantity=part, end=middle))
        finer.append(replace(reading, quantity=reading.quantity - part, start=middle))
    assert bill(finer, WHOLE_PLAN, WHOLE_BOOK).lines == bill(readings, WHOLE_PLAN, WHOLE_BOOK).lines


@given(readings=readings_lists, day=st.integers(2, 29))
def test_two_halves_of_a_month_add_up_to_the_month_when_prices_are_linear(readings: list[Reading], day: int) -> None:
    linear = (per_unit("0.0003"), rate_card(multiplier=Decimal("1.1")))
    halves = Period(NOVEMBER.start, november(day)), Period(november(day), NOVEMBER.end)
    parts = [
        rate(
            [reading for reading in readings if half.contains(reading.start)],
            components=linear,
            prices=PriceBook(WHOLE_BOOK, currency="USD"),
            period=half,
            fee_period=None,
            currency="USD",
        ).total_exact
        for half in halves
    ]
    assert sum(parts) == bill(readings, linear, WHOLE_BOOK).total_exact


@given(readings=readings_lists)
def test_nothing_used_is_lost_or_priced_twice(readings: list[Reading]) -> None:
    rating = bill(readings, WHOLE_PLAN, WHOLE_BOOK)
    quantities = [
        *(line.quantity for line in rating.lines if line.kind != "flat_fee"),
        *(reading.quantity for reading in (*rating.unpriced, *rating.uncovered)),
    ]
    assert sum(quantities) == sum(reading.quantity for reading in readings)


@given(readings=readings_lists)
def test_every_line_can_be_recomputed_from_its_own_figures(readings: list[Reading]) -> None:
    rating = bill(readings, WHOLE_PLAN, WHOLE_BOOK)
    for line in rating.lines:
        assert line.included + line.billable == line.quantity
        if line.unit_price is None:
            assert line.amount == sum(step.amount for step in line.steps)
            assert all(step.amount == step.units * step.unit_price / step.scale + step.flat for step in line.steps)
        else:
            assert line.amount == line.billable * line.unit_price / line.scale
    assert rating.total_exact == sum(line.amount for line in rating.lines)
    assert len({line.key for line in rating.lines}) == len(rating.lines)


@given(readings=readings_lists)
def test_allowances_never_exceed_what_the_plan_gives(readings: list[Reading]) -> None:
    lines = bill(readings, WHOLE_PLAN, WHOLE_BOOK).lines
    assert sum(line.included for line in lines if line.meter == "input_tokens") <= 700
    assert all(Decimal(0) <= line.included <= max(line.quantity, Decimal(0)) for line in lines)


@given(readings=readings_lists)
def test_apportioned_lines_add_up_to_the_total(readings: list[Reading]) -> None:
    rating = bill(readings, WHOLE_PLAN, WHOLE_BOOK)
    total, shares = rating.apportioned()
    assert sum(shares) == total
    assert abs(total - rating.total_exact * 100) <= Decimal("0.5")
    assert len(shares) == len(rating.lines)


def test_ambient_decimal_context_changes_nothing() -> None:
    readings = [used("123456789.123456"), used("987654321.654321", "calls"), used("5.5", "requests")]
    expected = bill(readings, WHOLE_PLAN, WHOLE_BOOK)
    with localcontext(Context(prec=2, rounding=ROUND_UP)):
        assert bill(readings, WHOLE_PLAN, WHOLE_BOOK) == expected


def test_a_trillion_units_at_a_tiny_price_stay_exact() -> None:
    (line,) = bill([used("1000000000000.000001")], [rate_card()], [price("0.000000000001")]).lines
    assert line.amount == Decimal("0.000001000000000000000001")


def test_scale_that_does_not_divide_evenly_is_cut_far_below_a_cent() -> None:
    (line,) = bill([used(1, "requests")], [per_unit("1", scale=Decimal(3))]).lines
    assert line.amount == Decimal("0." + "3" * 60)
    (whole,) = bill([used(3, "requests")], [per_unit("1", scale=Decimal(3))]).lines
    assert whole.amount == 1


def test_first_component_that_covers_a_reading_prices_it() -> None:
    special = PerUnit(
        id="special",
        label="Sonnet",
        meter="input_tokens",
        unit_price=Decimal(1),
        scale=MILLION,
        only_models=("sonnet",),
    )
    rating = bill([used(1_000_000)], [special, rate_card()], [price("3")])
    assert [(line.component_id, line.amount) for line in rating.lines] == [("special", 1)]
    rating = bill([used(1_000_000)], [rate_card(), special], [price("3")])
    assert [(line.component_id, line.amount) for line in rating.lines] == [("card", 3)]


def test_usage_that_no_component_covers_is_reported_in_order() -> None:
    rating = bill([used(1, "seconds", day=4), used(2, "seconds", day=2)], [per_unit()])
    assert [reading.quantity for reading in rating.uncovered] == [2, 1]
    assert rating.lines == ()


def test_nothing_used_makes_no_line() -> None:
    rating = bill([used(0, "requests"), used(0), used(0, "seconds"), used(5), used(-5)], WHOLE_PLAN[1:], WHOLE_BOOK)
    assert (rating.lines, rating.unpriced, rating.uncovered) == ((), (), ())
    assert rating.apportioned() == (0, [])


def test_same_usage_rated_again_keeps_its_keys() -> None:
    first = bill([used(5), used(7, "requests")], WHOLE_PLAN, WHOLE_BOOK)
    later = bill([used(5), used(7, "requests"), used(9, "requests"), used(1, "calls")], WHOLE_PLAN, WHOLE_BOOK)
    assert {line.key for line in first.lines} <= {line.key for line in later.lines}


@pytest.mark.parametrize("value", [1.5, 3, "1", None])
def test_figures_that_are_not_decimals_are_refused(value: Any) -> None:
    for call in (
        lambda: Reading("calls", "", value, november(1), november(2)),
        lambda: FlatFee(id="fee", label="Fee", amount=value, in_advance=True),
        lambda: PerUnit(id="unit", label="Unit", meter="calls", unit_price=value),
        lambda: per_unit(scale=value),
        lambda: per_unit(included=value),
        lambda: graduated(Tier(None, value)),
        lambda: graduated(Tier(None, Decimal(1), flat=value)),
        lambda: rate_card(multiplier=value),
        lambda: rate_card(included={"calls": value}),
        lambda: PriceRow("id", "calls", "", value, MILLION, november(1), None, "USD"),
        lambda: PriceRow("id", "calls", "", Decimal(1), value, november(1), None, "USD"),
    ):
        with pytest.raises(TypeError):
            call()


def test_figures_that_make_no_sense_are_refused() -> None:
    for call in (
        lambda: used("NaN"),
        lambda: used("Infinity"),
        lambda: per_unit(scale=Decimal(0)),
        lambda: per_unit(included=Decimal(-1)),
        lambda: price("1", scale=Decimal(-1)),
        lambda: rate_card(included={"calls": Decimal(-1)}),
        lambda: rate_card(multiplier=Decimal(-1)),
    ):
        with pytest.raises(InvalidAmount):
            call()
    with pytest.raises(EmptyPeriod):
        Reading("calls", "", Decimal(1), november(2), november(2))
    with pytest.raises(EmptyPeriod):
        price("1", since=november(2), until=november(2))
    with pytest.raises(NaiveInstant):
        Reading("calls", "", Decimal(1), november(2).replace(tzinfo=None), november(3))
    with pytest.raises(UnknownCurrency):
        price("1", currency="BTC")
    with pytest.raises(DuplicatePriceRow):
        PriceBook([price("1"), price("2")], currency="USD")
    with pytest.raises(DuplicateComponent):
        bill([], [per_unit(), per_unit()])


def test_readings_outside_the_period_are_refused() -> None:
    for start, end in pairwise([NOVEMBER.start - HOUR, NOVEMBER.start + HOUR, NOVEMBER.end + HOUR]):
        with pytest.raises(ReadingOutsidePeriod):
            bill([Reading("requests", "", Decimal(1), start, end)], [per_unit()])


def test_book_in_another_currency_is_refused() -> None:
    book = PriceBook([], currency="EUR")
    with pytest.raises(PriceBookCurrencyDiffers):
        rate([], components=[], prices=book, period=NOVEMBER, fee_period=None, currency="USD")


def test_two_hundred_readings_against_two_hundred_prices_take_milliseconds() -> None:
    meters, models = [f"meter_{number}" for number in range(4)], [f"model_{number}" for number in range(50)]
    book = PriceBook([price("1.5", meter, model) for meter in meters for model in models], currency="USD")
    readings = [used(7, meter, model) for meter in meters for model in models]

    def seconds() -> float:
        start = perf_counter()
        rating = rate(readings, components=[rate_card()], prices=book, period=NOVEMBER, fee_period=None, currency="USD")
        assert len(rating.lines) == 200
        return perf_counter() - start

    assert min(seconds() for _ in range(5)) < 0.05
