"""Margins: the rows of a bill add up to its total, costs are dated, and what is unknown is said."""

from datetime import date
from decimal import Decimal

import pytest
import time_machine
from hypothesis import given
from hypothesis import strategies as st

from billing.invoicing import close_period, running_bill
from billing.margins import PriceChange, _spread, compute_margins, margins, totals
from billing.models import MarginDay, PriceKind
from billing.price_book import add_price
from billing.rating import Conditions
from metering.models import Meter
from tests.billing.billing_builders import LONG_AGO, at, meter, payg, price, subscribed, team, use

NOW = at(2026, 11, 22, 18)
FIRST, LAST = date(2026, 10, 1), date(2026, 11, 30)


def cost(meter_key, amount, model="gpt-4o", valid_from=LONG_AGO, **conditions):
    return add_price(
        meter(meter_key),
        model=model,
        currency="USD",
        amount=Decimal(amount),
        valid_from=valid_from,
        kind=PriceKind.COST,
        conditions=Conditions(**conditions),
        actor="test",
    )


@pytest.fixture
def sold(db):
    price("input_tokens", "2.50", model="gpt-4o")
    price("output_tokens", "10", model="gpt-4o")
    price("input_tokens", "1.00", model="gpt-oss")


@pytest.fixture
def on_payg(globex, sold):
    return subscribed(globex, payg(), anchor=at(2026, 10))


def by(grouping, change=None):
    return {row.name: row for row in margins(FIRST, LAST, by=grouping, change=change)}


def test_revenue_less_the_dated_cost_by_model_and_day(globex, on_payg):
    cost("input_tokens", "1.50")
    cost("input_tokens", "2.00", valid_from=at(2026, 10, 15))
    cost("output_tokens", "8")
    for day in (10, 20):
        use(globex, at(2026, 10, day, 9), input_tokens=1_000_000, output_tokens=100_000)
    close_period(on_payg, now=at(2026, 11, 3))

    compute_margins(NOW)

    model = by("model")["gpt-4o"]
    assert (model.revenue, model.cost, model.amount) == (7, Decimal("5.1"), Decimal("1.9"))
    assert model.percent == Decimal("27.1")
    days = by("day")
    assert (days["2026-10-10"].revenue, days["2026-10-10"].cost) == (Decimal("3.5"), Decimal("2.3"))
    assert days["2026-10-20"].cost == Decimal("2.8")


def test_batches_cost_what_batches_cost(globex, on_payg):
    Meter.objects.filter(key="input_tokens").update(dimensions=["model", "service_tier"])
    cost("input_tokens", "2.00")
    cost("input_tokens", "1.00", service_tier="batch")
    use(globex, at(2026, 10, 10, 9), input_tokens=1_000_000)
    use(globex, at(2026, 10, 10, 9), input_tokens=1_000_000, service_tier="batch")
    close_period(on_payg, now=at(2026, 11, 3))

    compute_margins(NOW)

    assert (by("model")["gpt-4o"].revenue, by("model")["gpt-4o"].cost) == (5, 3)


def test_rows_of_bills_add_up_to_what_was_billed_fees_included(globex, acme, sold):
    closed, running = subscribed(globex, team(), anchor=at(2026, 10)), subscribed(acme, payg(), anchor=at(2026, 11, 5))
    for day in (3, 9, 27):
        use(globex, at(2026, 10, day, 7), input_tokens=333_333, output_tokens=77_777)
    use(acme, at(2026, 11, 7), model="gpt-oss", input_tokens=1_234_567)
    invoice = close_period(closed, now=at(2026, 11, 3))

    compute_margins(NOW)

    of_invoice = MarginDay.objects.filter(subscription=closed, bill_start=invoice.period_start)
    assert sum(row.revenue for row in of_invoice) == invoice.total_exact
    assert by("organisation")["Acme"].revenue == running_bill(running, NOW).total_exact


def test_making_them_again_changes_nothing(globex, on_payg):
    use(globex, at(2026, 11, 7), input_tokens=1_000_000)
    compute_margins(NOW)
    before = totals(margins(FIRST, LAST, by="model"))

    compute_margins(NOW)

    assert totals(margins(FIRST, LAST, by="model")) == before


def test_usage_without_a_cost_is_marked_and_not_free(globex, on_payg):
    cost("output_tokens", "8")
    use(globex, at(2026, 11, 7), input_tokens=1_000_000, output_tokens=1000)
    compute_margins(NOW)

    row = by("model")["gpt-4o"]

    assert row.is_cost_partial
    assert row.cost == Decimal("0.008")


def test_a_changed_price_moves_revenue_of_that_model_alone(globex, on_payg):
    cost("input_tokens", "2.00")
    use(globex, at(2026, 11, 7), input_tokens=1_000_000)
    use(globex, at(2026, 11, 8), model="gpt-oss", input_tokens=1_000_000)
    compute_margins(NOW)

    rows = by("model", PriceChange(Decimal(-10), "gpt-4o"))

    assert (rows["gpt-4o"].revenue, rows["gpt-4o"].amount) == (Decimal("2.25"), Decimal("0.25"))
    assert rows["gpt-oss"].revenue == 1


@given(
    st.decimals(-(10**9), 10**9, places=9),
    st.dictionaries(st.dates(), st.decimals("0.001", 10**12, places=3), min_size=1, max_size=40),
)
def test_spreading_loses_nothing(amount, weights):
    shares = _spread(amount, {(day, "m"): weight for day, weight in weights.items()})

    assert sum(shares.values()) == amount
    assert len(shares) == len(weights)


# --- The operators' page ------------------------------------------------------------------------------------------

ADDRESS = "/admin/billing/marginday/"


def test_operator_sees_margins_and_tries_a_price(client_for, operator, globex, on_payg, freezing):
    cost("input_tokens", "2.00")
    use(globex, at(2026, 11, 7), input_tokens=1_000_000)
    compute_margins(NOW)

    page = client_for(operator).get(ADDRESS, {"percent": "10", "by": "organisation"}).content.decode()

    assert "$2.50" in page
    assert "20.0%" in page
    assert "$2.75" in page  # ten percent more


def test_page_without_figures_and_with_a_bad_question_says_so(client_for, operator, freezing):
    assert "Nothing was billed for these days" in client_for(operator).get(ADDRESS).content.decode()
    assert "Select a valid choice" in client_for(operator).get(ADDRESS, {"days": "9999"}).content.decode()


@pytest.fixture
def freezing():
    with time_machine.travel(NOW, tick=False):
        yield


# --- API ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def known(globex, acme, on_payg):
    """Globex earns $2.50 and costs $1.50; Acme, on the same plan, earns $5 and costs $3."""
    cost("input_tokens", "1.50")
    subscribed(acme, on_payg.phases.get().plan_version, anchor=at(2026, 10))
    use(globex, at(2026, 11, 10), input_tokens=1_000_000)
    use(acme, at(2026, 11, 10), input_tokens=2_000_000)
    compute_margins(NOW)


@pytest.fixture
def ask(api, service_token):
    client = api(service_token.secret)

    def ask(**query):
        with time_machine.travel(NOW, tick=False):
            return client.get("/v1/margins", query).json()

    return ask


@pytest.mark.usefixtures("known")
def test_api_tells_margins_by_model_organisation_and_day(ask, globex, acme):
    by_model, by_organisation, by_day = (ask(by=name) for name in ("model", "organisation", "day"))

    (row,) = by_model["rows"]
    assert row == {
        "id": "gpt-4o",
        "name": "gpt-4o",
        "currency": "USD",
        "revenue": "7.5",
        "cost": "4.5",
        "margin": "3",
        "margin_percent": "40",
        "is_cost_partial": False,
    }
    assert by_model["totals"] == [row | {"id": "", "name": "All"}]
    rows = [(row["id"], row["name"], row["revenue"]) for row in by_organisation["rows"]]
    assert rows == [(acme.public_id, "Acme", "5"), (globex.public_id, "Globex", "2.5")]
    assert [row["id"] for row in by_day["rows"]] == ["2026-11-10"]
    assert (by_model["first_day"], by_model["last_day"], by_model["left_out"]) == ("2026-10-24", "2026-11-22", 0)
    assert by_model["computed_at"] == "2026-11-22T18:00:00Z"


@pytest.mark.usefixtures("known")
def test_api_tells_those_of_one_organisation_of_some_days_and_of_other_prices(ask):
    of_one = ask(organisation="globex", percent="10")
    of_before = ask(first_day="2026-10-01", last_day="2026-10-31")

    assert [(row["revenue"], row["cost"]) for row in of_one["rows"]] == [("2.75", "1.5")]
    assert of_before["rows"] == of_before["totals"] == []


@pytest.mark.parametrize(
    "query",
    [
        {"by": "colour"},
        {"first_day": "2026-11-02", "last_day": "2026-11-01"},
        {"first_day": "2020-01-01"},
        {"last_day": "0001-01-02"},
        {"percent": "-101"},
    ],
)
def test_api_refuses_what_makes_no_sense(query, api, service_token):
    assert api(service_token.secret).get("/v1/margins", query).status_code == 400


def test_margins_are_no_customers(api, acme_access_token):
    answer = api(acme_access_token.secret).get("/v1/margins")

    assert (answer.status_code, answer.json()["code"]) == (403, "service_token_required")
