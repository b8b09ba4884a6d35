"""The last months on other plans and with other models, against the invoices that were written."""

from decimal import Decimal

import pytest
import time_machine

from billing.invoicing import close_period
from billing.tariff_comparison import ModelNotUsed, Substitution, compare_tariffs
from tests import factories
from tests.billing.billing_builders import at, payg, price, subscribed, team, use

pytestmark = pytest.mark.django_db

NOW = at(2026, 11, 22, 18)


@pytest.fixture
def on_team(globex):
    """Two whole months and a running one on Team, with 3 M input tokens in each whole month and a fee in advance."""
    price("input_tokens", "2.50", model="gpt-4o")
    price("input_tokens", "0.30", model="gpt-oss")
    price("output_tokens", "10", model="gpt-4o")
    payg()
    subscription = subscribed(globex, team(), anchor=at(2026, 9, 10))
    for month in (9, 10, 11):
        use(globex, at(2026, month, 12, 9), input_tokens=3_000_001, output_tokens=70_003)
    return subscription


def test_a_plan_compared_with_itself_is_exactly_its_invoice(globex, on_team):
    september, october = (close_period(on_team, now=at(2026, month, 11)) for month in (10, 11))

    comparison = compare_tariffs(globex, months=2, now=NOW)

    current = comparison.baseline
    assert [month.total_minor for month in current.months] == [september.total_minor - 4900, october.total_minor]
    assert current.total_minor == 2 * (4900 + 820)  # 3,000,001 × 2.50 + 70,003 × 10 per million, rounded once
    assert comparison.saving_minor(current) == 0


def test_plans_are_sorted_by_what_they_come_to_and_say_what_they_save(globex, on_team):
    comparison = compare_tariffs(globex, months=2, now=NOW)

    assert [tariff.offer.plan.key for tariff in comparison.tariffs] == ["payg", "team"]
    assert [comparison.saving_minor(tariff) for tariff in comparison.tariffs] == [9800, 0]


def test_months_before_the_first_usage_are_left_out(globex, on_team):
    comparison = compare_tariffs(globex, months=12, now=NOW)

    assert [month.start for month in comparison.months] == [at(2026, 9, 10), at(2026, 10, 10)]


def test_another_model_is_a_range_because_it_counts_tokens_differently(globex, on_team):
    for meter in ("output_tokens",):
        price(meter, "1.20", model="gpt-oss")
    other = Substitution("gpt-4o", "gpt-oss", Decimal("0.9"), Decimal("1.2"))

    comparison = compare_tariffs(globex, months=1, now=NOW, substitution=other)

    team_tariff = next(tariff for tariff in comparison.tariffs if tariff.is_current)
    assert comparison.baseline.total_minor == 4900 + 820
    # 3,000,001 × 0.30 + 70,003 × 1.20 = 0.9840039 dollars, and the same times 0.9 and 1.2
    assert team_tariff.total_minor == 4900 + 98
    assert (team_tariff.least_minor, team_tariff.most_minor) == (4900 + 89, 4900 + 118)
    assert comparison.saving_minor(team_tariff) == 820 - 98


def test_what_has_no_price_with_the_other_model_is_named(globex, on_team):
    comparison = compare_tariffs(globex, months=1, now=NOW, substitution=Substitution("gpt-4o", "gpt-oss"))

    assert {reading.meter for reading in comparison.tariffs[0].unpriced} == {"output_tokens"}


def test_a_model_that_was_not_used_cannot_be_replaced(globex, on_team):
    with pytest.raises(ModelNotUsed):
        compare_tariffs(globex, months=1, now=NOW, substitution=Substitution("claude", "gpt-oss"))


def test_an_organisation_without_a_plan_compares_calendar_months(acme):
    price("input_tokens", "2.50", model="gpt-4o")
    payg()
    use(acme, at(2026, 10, 3), input_tokens=2_000_000)

    comparison = compare_tariffs(acme, months=3, now=NOW)

    assert comparison.baseline is None
    assert [month.start for month in comparison.months] == [at(2026, 9, 30, 22)]  # October in Berlin
    assert comparison.tariffs[0].total_minor == 500
    assert comparison.saving_minor(comparison.tariffs[0]) is None


def test_plans_in_other_currencies_or_by_the_year_are_named_and_not_compared(globex, on_team):
    payg("payg-eur", currency="EUR")
    team("yearly", cadence="year")

    comparison = compare_tariffs(globex, months=1, now=NOW)

    assert {offer.plan.key for offer in comparison.left_out} == {"payg-eur", "yearly"}


def test_without_usage_there_is_nothing_to_compare(globex):
    payg()

    comparison = compare_tariffs(globex, months=3, now=NOW)

    assert not comparison.has_usage
    assert comparison.months == ()


ADDRESS = "/o/globex/plan/comparison/"


@pytest.fixture
def _now():
    with time_machine.travel(NOW, tick=False):
        yield


@pytest.mark.usefixtures("_now")
def test_page_shows_plans_with_what_they_save_and_the_way_to_them(client_for, gus, globex, on_team):
    page = client_for(gus).get(ADDRESS, {"months": "1"}).content.decode()

    assert "saves $49.00" in page
    assert "/o/globex/plan/change/?plan=payg" in page
    assert "10 Oct" in page


@pytest.mark.usefixtures("_now")
def test_page_shows_a_range_for_another_model(client_for, gus, globex, on_team):
    page = client_for(gus).get(ADDRESS, {"model": "gpt-4o", "instead": "gpt-oss"}).content.decode()

    assert "gpt-oss in place of gpt-4o: a range." in page
    assert "Without a price, so not in the total: gpt-oss output tokens" in page


@pytest.mark.usefixtures("_now")
@pytest.mark.parametrize(
    ("query", "said"),
    [
        ({"months": "99"}, "99 is not one of the available choices"),
        ({"model": "gpt-4o"}, "Choose both models, or neither."),
        ({"model": "nothing", "instead": "gpt-oss"}, "nothing is not one of the available choices"),
    ],
)
def test_page_names_what_it_cannot_read_and_compares_all_the_same(client_for, gus, globex, on_team, query, said):
    page = client_for(gus).get(ADDRESS, query).content.decode()

    assert said in page
    assert "saves" in page


def test_page_of_an_organisation_without_usage_says_so(client_for, gus, globex):
    assert "No whole month to compare yet" in client_for(gus).get(ADDRESS).content.decode()


def test_comparison_of_another_organisation_does_not_exist(client_for, olivia, acme, globex):
    assert client_for(olivia).get(ADDRESS).status_code == 404


@pytest.fixture
def ask(api, globex):
    """Ask the API with a token of globex."""
    client = api(factories.access_token(globex, "Finance").secret)
    return lambda **query: client.get("/v1/tariff-comparison", query)


@pytest.mark.usefixtures("_now")
def test_api_says_what_the_page_says(ask, on_team):
    answer = ask(months=1).json()

    assert answer["current_total_minor"] == 4900 + 820
    assert [(one["plan"], one["total_minor"], one["saving_minor"]) for one in answer["tariffs"]] == [
        ("payg", 820, 4900),
        ("team", 5720, 0),
    ]
    assert answer["tariffs"][0]["months"] == [
        {"start": "2026-10-10T00:00:00Z", "end": "2026-11-10T00:00:00Z", "total_minor": 820}
    ]


@pytest.mark.usefixtures("_now")
@pytest.mark.parametrize(
    ("query", "code"),
    [
        ({"months": "0"}, "invalid_months"),
        ({"months": "x"}, "invalid_months"),
        ({"model": "gpt-4o"}, "incomplete_substitution"),
        ({"model": "claude", "instead": "gpt-oss"}, "model_not_used"),
        ({"model": "gpt-4o", "instead": "gpt-oss", "most_tokens": "NaN"}, "invalid_range"),
        ({"model": "gpt-4o", "instead": "gpt-oss", "most_tokens": "0.5"}, "invalid_range"),
    ],
)
def test_api_refuses_what_it_cannot_compare(ask, on_team, query, code):
    answer = ask(**query)

    assert (answer.status_code, answer.json()["code"]) == (400, code)
