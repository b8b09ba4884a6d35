"""Forecasts: the shape of the week, how sure they are, and how they do on periods whose end is known."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from zoneinfo import ZoneInfo

import pytest
import time_machine
from hypothesis import given
from hypothesis import strategies as st

from billing import rating
from billing.budgets import suggest_budget
from billing.couponing import redeem, save_coupon
from billing.forecasting import back_test, forecast, make_forecasts, typical_error
from billing.invoicing import bill_before_credit, close_period, running_bill
from billing.models import Coupon, CouponDuration, Forecast, Subscription
from billing.periods import Period
from billing.price_book import add_price
from billing.resting import end_pause, pause
from billing.schedules import current_period
from billing.subscribing import change_plan
from billing.usage_profile import AGE_OF_LEVEL, DRIFT, SPREAD_OF_EIGHTY_PERCENT, expect, profile_of
from metering.models import Meter
from tests import factories
from tests.billing.billing_builders import LONG_AGO, at, payg, price, subscribed, team, use
from tests.metering.usage_world import event, fold_all, send

BERLIN = ZoneInfo("Europe/Berlin")
NOVEMBER = at(2026, 11, 22, 18)


def hours_of(days: int, per_day: list[int], zone: ZoneInfo = BERLIN) -> list[tuple[datetime, Decimal]]:
    """From Monday 5 October on: the day's use at noon, by weekday."""
    first = datetime(2026, 10, 5, 12, tzinfo=zone)
    return [(first + timedelta(days=n), Decimal(per_day[n % 7])) for n in range(days)]


def seen(days: int, zone: ZoneInfo = BERLIN) -> Period:
    start = datetime(2026, 10, 5, tzinfo=zone)
    return Period(start, start + timedelta(days=days))


WORKWEEK = [100, 100, 100, 100, 100, 20, 0]


def test_profile_knows_weekdays_and_hours():
    profile = profile_of(hours_of(28, WORKWEEK), seen=seen(28), zone=BERLIN)
    monday = datetime(2026, 11, 2, tzinfo=BERLIN)

    assert profile.weight(Period(monday, monday + timedelta(days=7))) == pytest.approx(7)
    assert profile.weight(Period(monday, monday + timedelta(hours=12))) == 0
    noon = monday + timedelta(hours=12)
    assert profile.weight(Period(noon, noon + timedelta(hours=1))) == pytest.approx(Decimal(700) / 520)
    sunday = monday + timedelta(days=6)
    assert profile.weight(Period(sunday, sunday + timedelta(days=1))) == 0


@given(st.lists(st.integers(0, 1000), min_size=7, max_size=7).filter(any), st.integers(7, 56))
def test_weights_of_a_week_add_up_to_seven_days(per_day, days):
    profile = profile_of(hours_of(days, per_day), seen=seen(days), zone=BERLIN)

    assert sum(profile.weights.values()) == pytest.approx(7)
    assert min(profile.weights.values()) >= 0


@given(st.integers(0, 366 * 24), st.integers(1, 500), st.integers(0, 500))
def test_weight_of_a_stretch_is_the_sum_of_its_parts(hour, quarters, cut):
    profile = profile_of(hours_of(28, WORKWEEK), seen=seen(28), zone=BERLIN)
    start = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(hours=hour)
    whole = Period(start, start + quarters * timedelta(minutes=15))
    parts = whole.split_at([start + cut * timedelta(minutes=15)])

    assert sum(profile.weight(part) for part in parts) == pytest.approx(profile.weight(whole))


def test_a_steady_week_is_expected_to_go_on_and_may_only_drift():
    days, profile = steady_days(28)
    ahead = Period(datetime(2026, 11, 2, tzinfo=BERLIN), datetime(2026, 11, 9, tzinfo=BERLIN))

    expectation = expect(days, profile=profile, stretches=[ahead], now=ahead.start)

    assert expectation.units[("input_tokens", "m"), ahead] == pytest.approx(520)
    weeks_ahead = (Decimal("3.5") + AGE_OF_LEVEL) / 7
    assert expectation.spread == pytest.approx(SPREAD_OF_EIGHTY_PERCENT * DRIFT * weeks_ahead, rel=Decimal("0.01"))


def test_scattered_days_are_less_certain_and_a_longer_stretch_is_more_so():
    days, profile = steady_days(28, wobble=lambda n: Decimal("1.5") if n % 2 else Decimal("0.5"))
    start = datetime(2026, 11, 2, tzinfo=BERLIN)
    spreads = [
        expect(days, profile=profile, stretches=[Period(start, start + timedelta(days=n))], now=start).spread
        for n in (1, 7, 28)
    ]

    assert spreads[0] > spreads[1] > Decimal("0.2")
    assert spreads[2] > Decimal("0.1")


def steady_days(count, wobble=lambda n: Decimal(1)):
    hours = hours_of(count, WORKWEEK)
    profile = profile_of(hours, seen=seen(count), zone=BERLIN)
    start = datetime(2026, 10, 5, tzinfo=BERLIN)
    days = {
        Period(start + timedelta(days=n), start + timedelta(days=n + 1)): {("input_tokens", "m"): units * wobble(n)}
        for n, (_, units) in enumerate(hours)
    }
    return days, profile


# --- With usage ---------------------------------------------------------------------------------------------------


def history(organisation, *, days, until=NOVEMBER, tokens=1_000_000, **more):
    """A call at noon of each working day, folded at the end."""
    for number in range(days):
        when = until.replace(hour=12) - timedelta(days=number)
        if when < until and when.weekday() < 5:
            body = event(organisation.public_id, when, model="gpt-4o", input_tokens=tokens, **more)
            send(body, now=when)
    fold_all(until)


@pytest.fixture
def subscription(globex):
    price("input_tokens", "2.00", model="gpt-4o")
    return subscribed(globex, team(), anchor=at(2026, 9, 1))


@pytest.mark.django_db
def test_working_days_to_come_are_added_to_what_was_used(globex, subscription):
    history(globex, days=60)
    period = current_period(subscription, NOVEMBER)

    outlook = forecast(subscription, period, NOVEMBER)

    # 15 working days so far, six to come (23 to 30 November), $2 each; and December's fee.
    assert outlook.total_minor == pytest.approx(4900 + 21 * 200, rel=0.01)
    assert outlook.low_minor <= outlook.total_minor <= outlook.high_minor


@pytest.mark.django_db
def test_too_little_history_says_nothing(globex, subscription):
    history(globex, days=2)

    assert forecast(subscription, current_period(subscription, NOVEMBER), NOVEMBER) is None


@pytest.mark.django_db
def test_back_test_knows_only_what_was_known_then(globex, subscription):
    history(globex, days=80)

    trials = back_test(subscription, NOVEMBER)

    assert [trial.period.start for trial in trials][::3] == [at(2026, 10), at(2026, 9)]
    october = [trial for trial in trials if trial.period.start == at(2026, 10)]
    assert {trial.actual_minor for trial in october} == {22 * 200}
    assert typical_error(trials) < 10
    assert all(trial.at < trial.period.end for trial in trials)


@pytest.mark.django_db
def test_price_that_changes_later_in_the_period_is_in_the_forecast(globex, subscription):
    history(globex, days=60)
    period = current_period(subscription, NOVEMBER)
    before = forecast(subscription, period, NOVEMBER)
    price("input_tokens", "4.00", model="gpt-4o", valid_from=at(2026, 11, 24))

    after = forecast(subscription, period, NOVEMBER)

    assert after.total_minor - before.total_minor == pytest.approx(5 * 200, rel=0.02)


@pytest.mark.django_db
def test_forecasts_are_made_once_an_hour_for_whoever_has_a_plan(globex, acme, subscription):
    history(globex, days=30)

    assert make_forecasts(NOVEMBER) == 1
    assert make_forecasts(NOVEMBER + timedelta(minutes=59)) == 0
    assert make_forecasts(NOVEMBER + timedelta(minutes=61)) == 1
    row = Forecast.objects.get()
    assert row.organisation == globex
    assert row.tested_at == NOVEMBER
    assert row.total_minor > running_bill(subscription, NOVEMBER).total_minor


@pytest.mark.django_db
def test_page_shows_the_forecast_and_how_right_it_was(client_for, gus, globex, subscription):
    history(globex, days=80)
    for month in (10, 11):
        close_period(subscription, now=at(2026, month, 3))
    make_forecasts(NOVEMBER)

    with time_machine.travel(NOVEMBER, tick=False):
        page = client_for(gus).get("/o/globex/forecast/").content.decode()
        overview = client_for(gus).get("/o/globex/").content.decode()

    assert "How right it was before" in page
    assert "A budget that would fit" in page
    assert "Likely range" in page
    assert "likely $" in overview


@pytest.mark.django_db
def test_page_says_when_it_is_too_early_or_there_is_no_plan(client_for, gus, olivia, acme, globex, subscription):
    assert "Too early to say" in client_for(gus).get("/o/globex/forecast/").content.decode()
    assert "No plan, so no bill" in client_for(olivia).get("/o/acme/forecast/").content.decode()
    assert client_for(olivia).get("/o/globex/forecast/").status_code == 404


@pytest.mark.django_db
def test_api_tells_the_forecast_or_why_there_is_none(api, globex, subscription):
    client = api(factories.access_token(globex, "Finance").secret)
    assert client.get("/v1/forecast").json()["code"] == "too_early"
    history(globex, days=80)
    make_forecasts(NOVEMBER)

    with time_machine.travel(NOVEMBER, tick=False):
        answer = client.get("/v1/forecast").json()

    assert answer["low_minor"] <= answer["total_minor"] <= answer["high_minor"]
    assert len(answer["trials"]) == 6
    assert Decimal(answer["typical_error_percent"]) < 10


# --- What the bill knows and the forecast has to ------------------------------------------------------------------


def heading(subscription, now=NOVEMBER) -> int:
    return forecast(subscription, current_period(subscription, now), now).total_minor


@pytest.mark.django_db
def test_of_a_period_that_has_ended_the_forecast_is_the_bill(globex, subscription):
    """Over a change of plan, a pause and a coupon, with late usage of the month before."""
    price("input_tokens", "3.00")
    history(globex, days=50, until=at(2026, 10, 31))
    close_period(subscription, now=at(2026, 10, 2))
    use(globex, at(2026, 9, 29), input_tokens=700_001)
    halve(subscription, now=at(2026, 10, 3))
    change_plan(subscription, team("scale", fee="499"), now=at(2026, 10, 9, 10), at_once=True)
    pause(subscription, now=at(2026, 10, 20), reason="Rest")
    end_pause(subscription, now=at(2026, 10, 22))
    october = Period(at(2026, 10), at(2026, 11))

    ended = forecast(subscription, october, at(2026, 11))
    nearly = forecast(subscription, october, at(2026, 10, 31, 23, 45))
    bill = close_period(subscription, now=at(2026, 11, 2))

    assert ended.low_minor == ended.total_minor == ended.high_minor == bill.total_minor
    assert {line.kind for line in bill.lines.all()} == {"flat_fee", "usage", "adjustment", "discount"}
    assert nearly.total_minor == pytest.approx(bill.total_minor, rel=0.01)


@pytest.mark.django_db
def test_coupons_come_off_what_is_to_come(globex, subscription):
    history(globex, days=60)
    before = heading(subscription)

    halve(subscription, now=at(2026, 11, 2))

    assert heading(subscription) == pytest.approx(before / 2, abs=1)


@pytest.mark.django_db
def test_what_is_used_on_trial_is_not_in_the_forecast(globex, subscription):
    """It ends on the 26th: three working days are left, and five days' part of the month's fee."""
    history(globex, days=60)
    Subscription.objects.filter(pk=subscription.pk).update(trial_ends_at=at(2026, 11, 26))

    assert heading(subscription) == pytest.approx(4900 + 817 + 3 * 200, rel=0.01)


@pytest.mark.django_db
def test_nothing_is_to_come_of_a_pause(globex, subscription):
    history(globex, days=60)

    pause(subscription, now=NOVEMBER, reason="Rest")

    # Fifteen working days so far, whatever comes after; and no fee for a December that begins with a pause.
    bill = bill_before_credit(subscription, NOVEMBER)
    assert heading(subscription) == bill.total_minor
    assert bill.usage_minor == 15 * 200


@pytest.mark.django_db
def test_usage_to_come_has_the_price_of_its_labels(globex, subscription):
    Meter.objects.filter(key="input_tokens").update(dimensions=["model", "service_tier"])
    add_price(
        Meter.objects.get(key="input_tokens"),
        model="gpt-4o",
        currency="USD",
        amount=Decimal(1),
        valid_from=LONG_AGO,
        conditions=rating.Conditions(service_tier="batch"),
    )
    history(globex, days=60, service_tier="batch")

    assert heading(subscription) == pytest.approx(4900 + 21 * 100, rel=0.01)


def halve(subscription, *, now) -> None:
    save_coupon(Coupon(code="HALF", name="Half", percent=Decimal(50), duration=CouponDuration.FOREVER))
    redeem(subscription, "HALF", now=now)


# --- Budgets ------------------------------------------------------------------------------------------------------


@pytest.mark.django_db
def test_budget_lies_above_a_usual_month_and_is_a_round_figure(globex):
    price("input_tokens", "2.00", model="gpt-4o")
    subscription = subscribed(globex, payg(), anchor=at(2026, 8, 1))
    for month, dollars in ((8, 40), (9, 50), (10, 90)):
        use(globex, at(2026, month, 12), input_tokens=dollars * 500_000)
        close_period(subscription, now=at(2026, month + 1, 3))

    suggestion = suggest_budget(subscription, None)

    assert suggestion.totals_minor == (4000, 5000, 9000)
    assert (suggestion.tight_minor, suggestion.tight_reached) == (6000, 1)  # 50 × 1.2
    assert (suggestion.roomy_minor, suggestion.roomy_reached) == (12000, 0)  # 90 × 1.25, rounded up to two digits


@pytest.mark.django_db
def test_nothing_used_is_no_ground_for_a_budget(globex, subscription):
    assert suggest_budget(subscription, None) is None


@pytest.mark.django_db
def test_api_suggests_a_budget_or_says_why_not(api, globex, subscription):
    client = api(factories.access_token(globex, "Finance").secret)
    with time_machine.travel(at(2026, 9, 2), tick=False):
        assert client.get("/v1/budget-suggestion").json()["code"] == "too_early"
    use(globex, at(2026, 9, 12), input_tokens=500_000)
    close_period(subscription, now=at(2026, 10, 3))

    with time_machine.travel(NOVEMBER, tick=False):
        answer = client.get("/v1/budget-suggestion").json()

    assert answer == {
        "currency": "USD",
        "tight_minor": 12000,
        "tight_reached": 0,
        "roomy_minor": 13000,
        "roomy_reached": 0,
        "totals_minor": [9900],
        "forecast_minor": None,
    }


@pytest.mark.django_db
def test_without_a_plan_there_is_no_budget_to_suggest(api, globex):
    answer = api(factories.access_token(globex, "Finance").secret).get("/v1/budget-suggestion")

    assert (answer.status_code, answer.json()["code"]) == (404, "no_subscription")
