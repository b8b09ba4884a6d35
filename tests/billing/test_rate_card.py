"""The rate card and the price book: which price applies when, and where usage must be cut."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from billing.periods import Period
from billing.rating import PriceBook, Reading, ReadingStraddlesPrice
from tests.billing.rating_builders import DECEMBER, HOUR, NOVEMBER, bill, november, price, rate_card, used


def test_each_model_and_meter_is_one_line_at_its_own_price() -> None:
    rows = [price("3"), price("15", "output_tokens"), price("0.8", model="haiku")]
    readings = [used(1_000_000), used(500_000, day=9), used(20_000, "output_tokens"), used(12_345_678, model="haiku")]
    rating = bill(readings, [rate_card()], rows)
    assert [(line.model, line.meter, line.amount) for line in rating.lines] == [
        ("haiku", "input_tokens", Decimal("9.8765424")),
        ("sonnet", "input_tokens", Decimal("4.5")),
        ("sonnet", "output_tokens", Decimal("0.3")),
    ]
    assert rating.lines[0].explanation == "12,345,678 input tokens × $0.80 per 1,000,000 = $9.8765424"
    assert rating.lines[0].description == "haiku, input tokens"
    assert rating.lines[0].key == "card:input_tokens:haiku:price_haiku_input_tokens"
    assert rating.lines[0].price_row_ids == ("price_haiku_input_tokens",)
    assert rating.total_exact == Decimal("14.6765424")


def test_meters_named_by_a_card_keep_their_order_on_the_bill() -> None:
    rows = [price("1", "output_tokens"), price("1", "input_tokens")]
    card = rate_card(meters=("output_tokens", "input_tokens"))
    rating = bill([used(1), used(1, "output_tokens"), used(1, "seconds")], [card], rows)
    assert [line.meter for line in rating.lines] == ["output_tokens", "input_tokens"]
    assert [reading.meter for reading in rating.uncovered] == ["seconds"]


def test_price_of_the_exact_model_beats_the_price_for_any_model() -> None:
    rows = [price("9", model=""), price("3", since=november(1))]
    rating = bill([used(1_000_000), used(1_000_000, model="haiku"), used(1_000_000, model="")], [rate_card()], rows)
    assert {line.model: line.amount for line in rating.lines} == {"sonnet": 3, "haiku": 9, "": 9}


def test_usage_without_a_model_has_no_use_for_the_price_of_one() -> None:
    rating = bill([used(10, model="")], [rate_card()], [price("3")])
    assert rating.lines == ()
    assert rating.unpriced == (used(10, model=""),)


def test_latest_price_in_force_wins_and_of_those_the_one_known_last() -> None:
    rows = [
        price("5", id="old"),
        price("4", id="newer", since=november(2)),
        price("3", id="corrected", since=november(2)),
    ]
    book = PriceBook(rows, currency="USD")
    assert [
        row.id for day in (1, 2, 3) if (row := book.price("input_tokens", model="sonnet", instant=november(day)))
    ] == [
        "old",
        "corrected",
        "corrected",
    ]


def test_a_limited_offer_gives_way_to_the_price_before_it() -> None:
    rows = [price("5", id="list"), price("1", id="offer", since=november(10), until=november(20))]
    rating = bill([used(1_000_000, day=day) for day in (9, 10, 19, 20)], [rate_card()], rows)
    assert {line.price_row_ids: line.amount for line in rating.lines} == {("list",): 10, ("offer",): 2}
    offer = next(line for line in rating.lines if line.price_row_ids == ("offer",))
    assert offer.period == Period(november(10), november(20))


def test_price_change_makes_two_lines_that_say_when_each_held() -> None:
    rows = [price("3", id="old"), price("2", id="new", since=november(15))]
    rating = bill([used(1_000_000, day=14), used(1_000_000, day=15)], [rate_card()], rows)
    assert [(line.price_row_ids, line.period, line.amount) for line in rating.lines] == [
        (("old",), Period(NOVEMBER.start, november(15)), 3),
        (("new",), Period(november(15), NOVEMBER.end), 2),
    ]


def test_reading_across_a_price_change_is_refused() -> None:
    rows = [price("3", id="old"), price("2", id="new", since=november(15))]
    across = Reading("input_tokens", "sonnet", Decimal(5), november(14), november(16))
    with pytest.raises(ReadingStraddlesPrice):
        bill([across], [rate_card()], rows)
    with pytest.raises(ReadingStraddlesPrice):
        bill([across], [rate_card()], [price("3", id="first", since=november(15))])
    with pytest.raises(ReadingStraddlesPrice):
        bill([across], [rate_card()], [price("3", id="last", until=november(15))])


def test_reading_up_to_a_price_change_and_across_the_change_of_another_price_is_fine() -> None:
    rows = [
        price("3", id="old"),
        price("2", id="new", since=november(15)),
        price("1", model="", id="any", since=november(7)),
        price("1", model="haiku", id="haiku", since=november(7)),
    ]
    readings = [
        Reading("input_tokens", "sonnet", Decimal(5), NOVEMBER.start, november(15)),
        Reading("input_tokens", "sonnet", Decimal(5), november(15), NOVEMBER.end),
    ]
    assert [line.price_row_ids for line in bill(readings, [rate_card()], rows).lines] == [("old",), ("new",)]


def test_boundaries_are_where_a_caller_has_to_cut() -> None:
    rows = [
        price("3", id="1", since=NOVEMBER.start),
        price("2", id="2", since=november(15), until=november(20)),
        price("2", model="haiku", id="3", since=november(15), until=NOVEMBER.end),
        price("2", id="4", since=DECEMBER.end),
        price("2", id="5", since=november(3), currency="EUR"),
    ]
    book = PriceBook(rows, currency="USD")
    assert book.boundaries(NOVEMBER) == [november(15), november(20)]
    for part in NOVEMBER.split_at(book.boundaries(NOVEMBER)):
        bill([Reading("input_tokens", "sonnet", Decimal(1), part.start, part.end)], [rate_card()], rows)


def test_price_in_another_currency_is_no_price() -> None:
    rating = bill([used(10)], [rate_card()], [price("3", currency="EUR")])
    assert (rating.lines, rating.unpriced) == ((), (used(10),))


def test_usage_before_the_first_price_and_after_the_last_is_unpriced() -> None:
    rows = [price("3", since=november(10), until=november(20))]
    rating = bill([used(10, day=day) for day in (20, 9, 10)], [rate_card()], rows)
    assert [reading.start for reading in rating.unpriced] == [november(9), november(20)]
    assert [line.quantity for line in rating.lines] == [10]


def test_multiplier_applies_to_every_price_and_is_explained() -> None:
    (line,) = bill([used(2_000_000)], [rate_card(multiplier=Decimal("0.9"))], [price("3")]).lines
    assert (line.unit_price, line.amount) == (Decimal("2.7"), Decimal("5.4"))
    assert line.explanation == "2,000,000 input tokens × $2.70 per 1,000,000 = $5.40 (list price $3.00 × 0.9)"


def test_cards_allowance_is_per_meter_and_goes_to_earlier_prices_and_then_by_model() -> None:
    rows = [price("3"), price("1", model="haiku", id="h1"), price("2", model="haiku", id="h2", since=november(15))]
    readings = [
        used(400, model="haiku", day=20),
        used(300, day=25),
        used(200, model="haiku", day=3),
        used(900, "output_tokens", day=1),
    ]
    card = rate_card(included={"input_tokens": Decimal(450)})
    rating = bill(readings, [card], [*rows, price("5", "output_tokens")])
    assert {line.price_row_ids[0]: line.included for line in rating.lines} == {
        "h1": 200,  # in force since the period began, first by model
        "price_sonnet_input_tokens": 250,  # likewise, and next by model
        "h2": 0,
        "price_sonnet_output_tokens": 0,
    }


def test_span_says_how_long_a_price_holds() -> None:
    book = PriceBook([price("3", since=november(10), until=november(20))], currency="USD")
    before = book.span("input_tokens", model="sonnet", instant=november(1))
    during = book.span("input_tokens", model="sonnet", instant=november(10))
    after = book.span("input_tokens", model="sonnet", instant=november(20))
    assert (before.row, before.start, before.end) == (None, None, november(10))
    assert during.row is not None
    assert (during.start, during.end) == (november(10), november(20))
    assert (after.row, after.start, after.end) == (None, november(20), None)


row_lists = st.lists(
    st.tuples(st.sampled_from(["sonnet", ""]), st.integers(1, 28), st.none() | st.integers(1, 10), st.integers(1, 9)),
    max_size=8,
)


@given(rows=row_lists, hour=st.integers(0, 40 * 24))
def test_book_answers_as_a_search_through_all_rows_does(
    rows: list[tuple[str, int, int | None, int]], hour: int
) -> None:
    book_rows = [
        price(str(amount), model=model, id=str(index), since=november(day), until=days and november(day + days))
        for index, (model, day, days, amount) in enumerate(rows)
    ]
    instant = NOVEMBER.start + hour * HOUR
    in_force = [
        (bool(row.model), row.valid_from, index, row)
        for index, row in enumerate(book_rows)
        if row.valid_from <= instant and (row.valid_until is None or instant < row.valid_until)
    ]
    expected = max(in_force)[-1] if in_force else None
    assert PriceBook(book_rows, currency="USD").price("input_tokens", model="sonnet", instant=instant) == expected
