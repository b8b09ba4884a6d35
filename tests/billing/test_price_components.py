"""From the catalogue's verb to the bill and the plan's words: every kind of component, stored and read back."""

from datetime import timedelta
from decimal import Decimal

import pytest
from django.db import IntegrityError, transaction

from billing import catalogue, rating
from billing.component_values import ComponentInvalid
from billing.invoicing import running_bill
from billing.models import ComponentKind, PlanVersion
from billing.plan_words import offer_of
from billing.schedules import first_period
from tests.billing.billing_builders import LONG_AGO, at, meter, subscribed, use

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


@pytest.mark.parametrize("kind", [ComponentKind.VOLUME, ComponentKind.PACKAGE])
def test_database_refuses_a_component_without_its_meter(draft, kind):
    with pytest.raises(IntegrityError), transaction.atomic():
        draft.components.create(kind=kind, label="Broken", position=1, unit_price=Decimal(1))


def test_volume_without_an_open_tier_is_refused(draft):
    tiers = (rating.Tier(Decimal(10), Decimal(3)),)
    with pytest.raises(ComponentInvalid):
        catalogue.add_volume(draft, label="Input", meter=meter("input_tokens"), tiers=tiers)
    assert not draft.components.exists()
