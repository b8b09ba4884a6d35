"""What a month of imagined calls would cost, on the public page that works it out."""

from datetime import timedelta
from decimal import Decimal

import pytest
import time_machine
from hypothesis import given
from hypothesis import strategies as st

from billing import catalogue
from billing.periods import Period
from billing.price_calculator import MONTH, Calls, _readings, estimates
from tests.billing.billing_builders import LONG_AGO, at, meter, payg, price, team

NOW = at(2026, 11, 22, 18)
CALLS = Calls("gpt-4o", count=1000, prompt_tokens=2000, cached_percent=25, answer_tokens=500)
ADDRESS = "/pricing/calculator/"


@pytest.fixture
def _prices(db):
    price("input_tokens", "2.50", model="gpt-4o")
    price("cache_read_tokens", "1.25", model="gpt-4o")
    price("output_tokens", "10", model="gpt-4o")


@pytest.mark.usefixtures("_prices")
def test_every_plan_is_worked_out_by_the_formula_of_the_bill():
    payg()
    team()

    first, second = estimates(CALLS, NOW)

    # 1.5 M × 2.50 + 0.5 M × 1.25 + 0.5 M × 10 = 3.75 + 0.625 + 5
    assert (first.offer.plan.key, first.total_minor) == ("payg", 938)
    assert (second.offer.plan.key, second.total_minor) == ("team", 4900 + 938)
    assert sum(share for _, share in second.parts) == second.total_minor


@pytest.mark.usefixtures("_prices")
def test_prices_by_the_hour_count_for_their_share_of_the_month():
    version = catalogue.draft_version(catalogue.create_plan("night", name="Night", is_public=True), currency="USD")
    catalogue.add_per_unit(
        version, label="By night", meter=meter("output_tokens"), unit_price=Decimal(6), windows="daily 00:00-12:00 UTC"
    )
    catalogue.add_per_unit(version, label="By day", meter=meter("output_tokens"), unit_price=Decimal(12))
    catalogue.publish_version(version, now=LONG_AGO)

    (estimate,) = estimates(CALLS, NOW)

    assert estimate.total_minor == 450  # half a million tokens, half at $6 and half at $12


@pytest.mark.usefixtures("_prices")
def test_a_model_that_lacks_a_price_is_not_offered_and_comes_last():
    payg()
    version = catalogue.draft_version(catalogue.create_plan("flat", name="Flat", is_public=True), currency="USD")
    catalogue.add_flat_fee(version, label="All in", amount=Decimal(5000))
    catalogue.publish_version(version, now=LONG_AGO)

    found = estimates(Calls("unheard-of", 10, 100, 0, 10), NOW)

    assert [one.offer.plan.key for one in found] == ["flat", "payg"]
    assert found[1].unpriced == ("input_tokens", "output_tokens")


@given(st.integers(0, 10**9), st.integers(0, 10**6), st.integers(0, 100), st.lists(st.integers(1, 2879), max_size=20))
def test_parts_of_the_month_add_up_to_all_calls(count, prompt, cached, cuts):
    calls = Calls("m", count, prompt, cached, 7)
    period = Period(NOW, NOW + MONTH)
    readings = _readings(calls, period.split_at([NOW + cut * timedelta(minutes=15) for cut in cuts]), period)

    for key, units in calls.units.items():
        assert sum(reading.quantity for reading in readings if reading.meter == key) == units
    prompts = calls.units["input_tokens"] + calls.units["cache_read_tokens"]
    assert prompts == count * prompt


@pytest.mark.usefixtures("_prices")
def test_page_begins_with_an_example_and_answers_what_the_address_asks(client):
    payg()
    with time_machine.travel(NOW, tick=False):
        example = client.get(ADDRESS).content.decode()
        asked = client.get(
            ADDRESS, {"model": "gpt-4o", "calls": "1000", "prompt": "2000", "cached": "25", "answer": "500"}
        ).content.decode()

    assert "100,000 calls to gpt-4o" in example
    assert "$9.38" in asked


@pytest.mark.usefixtures("_prices")
@pytest.mark.parametrize("query", [{"calls": "-1"}, {"calls": "many"}, {"cached": "101"}, {"model": "unheard-of"}])
def test_page_names_what_it_cannot_work_out(client, query):
    page = client.get(ADDRESS, query).content.decode()

    assert 'role="alert"' in page
    assert 'id="estimates"' not in page


def test_page_without_prices_says_so(client, db):
    assert "No prices yet" in client.get(ADDRESS).content.decode()
