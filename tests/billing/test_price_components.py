"""From the catalogue's verb to the bill and the plan's words: every kind of component, stored and read back."""

from datetime import timedelta
from decimal import Decimal

import pytest
import time_machine
from django.db import IntegrityError, transaction

from billing import catalogue, rating
from billing.bill_checks import check_invoice
from billing.component_values import ComponentInvalid, component_value
from billing.forecasting import forecast
from billing.invoicing import close_period, running_bill
from billing.models import ComponentKind, PlanVersion, PriceComponent, PriceKind, Subscription
from billing.plan_words import offer_of
from billing.price_book import PriceWindowsInvalid, add_price
from billing.schedules import current_period, first_period
from metering.models import Meter
from tests.billing.billing_builders import LONG_AGO, at, meter, price, subscribed, use

pytestmark = pytest.mark.django_db


@pytest.fixture
def draft() -> PlanVersion:
    return catalogue.draft_version(catalogue.create_plan("custom", name="Custom"), currency="USD")


def explained(organisation, version: PlanVersion, **units: int) -> dict[str, str]:
    """Label -> explanation, on the bill of a finished month in which that much was used."""
    version = catalogue.publish_version(version, now=LONG_AGO)
    subscription = subscribed(organisation, version, anchor=at(2026, 10))
    use(organisation, at(2026, 10, 5), **units)
    period = first_period(subscription)
    bill = running_bill(subscription, period.end + timedelta(hours=1), period=period)
    return {line.description: line.explanation for line in bill.lines}


def words(version: PlanVersion) -> list[tuple[str, str, tuple[str, ...]]]:
    return [(part.label, part.price, part.details) for part in offer_of(version).components]


def test_volume_tiers_from_the_catalogue_to_the_bill(globex, draft):
    tiers = (rating.Tier(Decimal(1_000_000), Decimal(3)), rating.Tier(None, Decimal(2)))
    catalogue.add_volume(draft, label="Input", meter=meter("input_tokens"), tiers=tiers, included=Decimal(500_000))
    assert words(draft) == [
        (
            "Input",
            "Up to 1,000,000: $3.00 per 1,000,000 input tokens",
            (
                "Beyond that: $2.00 per 1,000,000",
                "The tier reached prices all of it",
                "500,000 included each month",
            ),
        )
    ]
    assert explained(globex, draft, input_tokens=2_500_000) == {
        "Input": "2,500,000 input tokens, of which 500,000 included: "
        "all 2,000,000 × $2.00 per 1,000,000 (the price for above 1,000,000) = $4.00"
    }


def test_packages_from_the_catalogue_to_the_bill(globex, draft):
    catalogue.add_package(draft, label="Input", meter=meter("input_tokens"), price=Decimal("2.5"), size=Decimal(10_000))
    assert words(draft) == [("Input", "$2.50 per started 10,000 input tokens", ())]
    assert explained(globex, draft, input_tokens=20_001) == {
        "Input": "20,001 input tokens: 3 started blocks of 10,000 × $2.50 = $7.50"
    }


def test_commitment_and_cap_from_the_catalogue_to_the_bill(globex, draft):
    tokens = catalogue.add_per_unit(draft, label="Input", meter=meter("input_tokens"), unit_price=Decimal(2))
    catalogue.add_flat_fee(draft, label="Fee", amount=Decimal(10), in_advance=True)
    catalogue.add_minimum(draft, label="Commitment", amount=Decimal(100))
    catalogue.add_maximum(draft, label="Cap", amount=Decimal(50), of=[tokens])
    assert words(draft)[2:] == [
        ("Commitment", "At least $100.00 a month", ()),
        ("Cap", "At most $50.00 a month", ("Counts Input",)),
    ]
    explanations = explained(globex, draft, input_tokens=30_000_000)
    assert explanations["Cap"] == "At most $50.00 for Input, which come to $60.00: taken off = -$10.00"
    assert explanations["Commitment"] == "At least $100.00 for all charges, which come to $60.00: the rest = $40.00"


def test_version_whose_cap_counts_what_is_not_there_cannot_be_published(draft):
    catalogue.add_flat_fee(draft, label="Fee", amount=Decimal(10))
    cap = catalogue.add_maximum(draft, label="Cap", amount=Decimal(50))
    cap.counted = [7]
    cap.save()
    with pytest.raises(ComponentInvalid, match="component 7"):
        catalogue.publish_version(draft, now=LONG_AGO)


@pytest.fixture
def payments(db) -> Meter:
    return Meter.objects.create(
        key="payments",
        name="Payments",
        event_type="ai.usage",
        value_field="payments",
        aggregation="sum",
        unit="USD",
        display_scale=Decimal(1),
    )


def test_share_from_the_catalogue_to_the_bill(globex, draft, payments):
    catalogue.add_percentage(draft, label="Payments", meter=payments, percent=Decimal("1.5"), included=Decimal(100))
    assert words(draft) == [("Payments", "1.5% of payments", ("$100.00 free each month",))]
    assert explained(globex, draft, payments=1_100) == {
        "Payments": "$1,100.00 of payments, of which $100.00 free: 1.5% of $1,000.00 = $15.00"
    }


@pytest.mark.parametrize("key", ["payments", "input_tokens"])
def test_share_of_what_is_not_money_of_the_plan_is_refused(payments, key):
    draft = catalogue.draft_version(catalogue.create_plan("euro", name="Euro"), currency="EUR")
    with pytest.raises(ComponentInvalid):
        catalogue.add_percentage(draft, label="Share", meter=meter(key), percent=Decimal(1))


def test_cost_plus_from_the_catalogue_to_the_invoice(globex, draft):
    cost = add_price(
        meter("input_tokens"),
        model="gpt-4o",
        currency="USD",
        amount=Decimal("2.50"),
        valid_from=LONG_AGO,
        kind=PriceKind.COST,
    )
    price("input_tokens", "99", model="gpt-4o")
    catalogue.add_cost_plus(
        draft, label="Tokens", markup=Decimal("1.2"), meters=["input_tokens"], ceiling=Decimal("2.90")
    )
    assert words(draft) == [("Tokens", "20% above provider cost", ("At most $2.90 per 1,000,000", "Input tokens"))]
    subscription = subscribed(globex, catalogue.publish_version(draft, now=LONG_AGO), anchor=at(2026, 10))
    use(globex, at(2026, 10, 5), input_tokens=1_000_000)
    invoice = close_period(subscription, now=at(2026, 11, 2))
    (line,) = invoice.lines.all()
    assert (line.amount_minor, line.price_ids) == (290, [cost.public_id])
    assert line.explanation.endswith("(cost $2.50 × 1.2 = $3.00, but at most $2.90 per 1,000,000)")
    assert [row["id"] for row in invoice.evidence["periods"][0]["prices"]] == [cost.public_id]


def test_windows_from_the_catalogue_and_the_price_book_to_the_invoice(client_for, gus, globex, draft):
    peak = "Mon-Fri 01:00-04:00, 06:00-10:00 UTC"
    night = "daily 20:00-08:00 Europe/Berlin"
    tokens = meter("input_tokens")
    base, at_peak = [
        add_price(tokens, model="gpt-4o", currency="USD", amount=amount, valid_from=LONG_AGO, windows=windows)
        for amount, windows in ((Decimal(1), ""), (Decimal(2), peak))
    ]
    catalogue.add_per_unit(
        draft, label="Output by night", meter=meter("output_tokens"), unit_price=Decimal(3), windows=night
    )
    catalogue.add_rate_card(draft, label="Tokens", meters=["input_tokens"])
    assert words(draft)[0] == ("Output by night", "$3.00 per 1,000,000 output tokens", (f"Only {night}",))
    subscription = subscribed(globex, catalogue.publish_version(draft, now=LONG_AGO), anchor=at(2026, 10))
    for hour in (0, 2, 5, 6, 12):  # Monday 5 October; two of these hours are peak, three are night in Berlin
        use(globex, at(2026, 10, 5, hour), input_tokens=1_000_000, output_tokens=1_000_000)
    invoice = close_period(subscription, now=at(2026, 11, 2))
    page = client_for(gus).get(f"/o/{globex.slug}/invoices/{invoice.number}/").content.decode()
    assert f"<small>{peak}</small>" in page
    assert [(line.description, line.amount_minor, line.price_ids) for line in invoice.lines.all()] == [
        ("Output by night", 900, []),
        ("gpt-4o, input tokens", 300, [base.public_id]),
        (f"gpt-4o, input tokens, {peak}", 400, [at_peak.public_id]),
    ]
    assert check_invoice(invoice) == []
    assert [row.get("windows") for row in invoice.evidence["periods"][0]["prices"] if row["id"] == at_peak.public_id]


def test_price_list_shows_what_certain_hours_cost_beside_the_rest(client):
    for amount, windows in (("1", ""), ("2", "Mon-Fri 01:00-04:00 UTC")):
        add_price(
            meter("input_tokens"),
            model="gpt-4o",
            currency="USD",
            amount=Decimal(amount),
            valid_from=LONG_AGO,
            windows=windows,
        )
    page = client.get("/pricing/").content.decode()
    assert "$1.00 / 1M" in page
    assert "$2.00 / 1M, Mon-Fri 01:00-04:00 UTC" in page


def test_windows_that_say_nothing_are_refused(draft):
    with pytest.raises(PriceWindowsInvalid):
        add_price(
            meter("input_tokens"),
            model="",
            currency="USD",
            amount=Decimal(1),
            valid_from=LONG_AGO,
            windows="Mon 01:05-02:00 UTC",
        )
    with pytest.raises(ComponentInvalid):
        catalogue.add_rate_card(draft, label="Tokens", windows="at night")
    fee = PriceComponent(kind="flat_fee", label="Fee", position=1, amount=Decimal(1), windows="Sat 00:00-24:00 UTC")
    with pytest.raises(ComponentInvalid):
        component_value(fee, ())


@pytest.fixture
def committed(globex, draft) -> Subscription:
    """$5 per million input tokens, at least $100 a month, from October 2026."""
    catalogue.add_per_unit(draft, label="Input", meter=meter("input_tokens"), unit_price=Decimal(5))
    catalogue.add_minimum(draft, label="Commitment", amount=Decimal(100))
    return subscribed(globex, catalogue.publish_version(draft, now=LONG_AGO), anchor=at(2026, 10))


def test_running_period_expects_its_true_up_and_does_not_charge_it(globex, committed):
    use(globex, at(2026, 10, 5), input_tokens=2_000_000)
    bill = running_bill(committed, at(2026, 10, 9))
    assert (bill.total_exact, [line.kind for line in bill.lines]) == (10, ["usage"])
    assert [(line.amount_exact, line.amount_minor) for line in bill.expected] == [(90, 9000)]
    ended = running_bill(committed, at(2026, 11), period=bill.period)
    assert (ended.total_exact, ended.expected) == (100, ())
    assert [line.kind for line in ended.lines] == ["usage", "commitment"]


def test_forecast_rises_with_use_but_not_by_the_true_up_it_already_holds(globex, committed):
    for day in (5, 8, 12, 15):
        use(globex, at(2026, 10, day), input_tokens=500_000)
    outlook = forecast(committed, current_period(committed, at(2026, 10, 16)), at(2026, 10, 16, 12))
    assert outlook is not None
    assert outlook.total_minor == 10_000


def test_late_usage_takes_the_true_up_back(globex, committed):
    use(globex, at(2026, 10, 5), input_tokens=2_000_000)
    october = close_period(committed, now=at(2026, 11, 2))
    assert [(line.kind, line.amount_minor) for line in october.lines.all()] == [("usage", 1000), ("commitment", 9000)]
    use(globex, at(2026, 10, 31), input_tokens=1_000_000)
    bill = running_bill(committed, at(2026, 11, 4))
    assert [(line.kind, line.amount_exact) for line in bill.lines] == [("adjustment", 5), ("adjustment", -5)]
    assert bill.total_exact == 0


def test_expected_true_up_stands_apart_on_the_page(client_for, gus, globex, committed):
    with time_machine.travel(at(2026, 10, 9), tick=False):
        use(globex, at(2026, 10, 5), input_tokens=2_000_000)
        page = client_for(gus).get(f"/o/{globex.slug}/bill/").content.decode()
    assert "Expected at the end of the period" in page
    assert "$90.00" in page


@pytest.mark.parametrize("kind", [ComponentKind.VOLUME, ComponentKind.PACKAGE])
def test_database_refuses_a_component_without_its_meter(draft, kind):
    with pytest.raises(IntegrityError), transaction.atomic():
        draft.components.create(kind=kind, label="Broken", position=1, unit_price=Decimal(1))


def test_volume_without_an_open_tier_is_refused(draft):
    tiers = (rating.Tier(Decimal(10), Decimal(3)),)
    with pytest.raises(ComponentInvalid):
        catalogue.add_volume(draft, label="Input", meter=meter("input_tokens"), tiers=tiers)
    assert not draft.components.exists()
