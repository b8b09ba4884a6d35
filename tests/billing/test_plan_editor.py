"""Plans in the admin: components with the fields of their kind, limits, and a draft on months that were metered."""

from decimal import Decimal

import pytest
import time_machine

from billing import catalogue
from billing.draft_previews import DraftDoesNotFit, preview_version
from billing.invoicing import close_period
from billing.models import ComponentKind, PlanVersion
from tests.billing.billing_builders import LONG_AGO, at, meter, payg, price, subscribed, team, use

NOW = at(2026, 11, 22, 18)


@pytest.fixture(autouse=True)
def _at_a_fixed_time():
    with time_machine.travel(NOW, tick=False):
        yield


@pytest.fixture
def desk(client_for, operator):
    return client_for(operator)


@pytest.fixture
def draft(db) -> PlanVersion:
    return catalogue.draft_version(catalogue.create_plan("new", name="New"), currency="USD")


def adding(draft: PlanVersion, kind: str) -> str:
    return f"/admin/billing/pricecomponent/add/?version={draft.pk}&kind={kind}"


def test_every_kind_has_a_page_with_its_own_fields(desk, draft):
    for kind in ComponentKind.values:
        page = desk.get(adding(draft, kind)).content.decode()
        assert ('name="tiers-0-up_to"' in page) == (kind in {"graduated", "volume"}), kind
        assert ('name="amount"' in page) == (kind in {"flat_fee", "minimum", "maximum"}), kind
        assert "{&quot;" not in page, kind
    assert (
        adding(draft, "volume").replace("&", "&amp;")
        in desk.get(f"/admin/billing/planversion/{draft.pk}/components/").content.decode()
    )


def test_tiers_and_allowance_are_filled_in_as_rows(desk, draft):
    filled = {
        "position": "1",
        "label": "Requests",
        "meter": meter("requests").pk,
        "scale": "1",
        "tiers-0-up_to": "100",
        "tiers-0-unit_price": "0.5",
        "tiers-1-unit_price": "0.1",
        "tiers-1-flat": "3",
        "included-0-meter": "requests",
        "included-0-number": "20",
    }

    assert desk.post(adding(draft, "graduated"), filled).status_code == 302

    row = draft.components.get()
    assert row.tiers == [
        {"up_to": "100", "unit_price": "0.5", "flat": "0"},
        {"up_to": None, "unit_price": "0.1", "flat": "3"},
    ]
    assert row.included == {"requests": "20"}
    page = desk.get(f"/admin/billing/pricecomponent/{row.pk}/change/").content.decode()
    assert 'name="tiers-1-flat" value="3"' in page
    desk.post(f"/admin/billing/pricecomponent/{row.pk}/change/", {**filled, "tiers-0-up_to": "200"})
    row.refresh_from_db()
    assert row.tiers[0]["up_to"] == "200"


@pytest.mark.parametrize(
    ("kind", "component", "complaint"),
    [
        ("volume", {"tiers-0-up_to": "10", "tiers-0-unit_price": "1"}, "must be open-ended"),
        ("graduated", {"tiers-0-unit_price": "cheap"}, "is not a number"),
        ("per_unit", {"unit_price": "1", "included-0-number": "5"}, "Choose a meter"),
        ("package", {}, "its price is missing"),
        ("minimum", {}, "its amount is missing"),
        ("percentage", {"percent": "2"}, "cannot be charged in USD"),
        ("cost_plus", {"floor": "2", "ceiling": "1", "multiplier": "1"}, "must not be above the highest"),
        ("package", {"unit_price": "5", "windows": "at night"}, "not a set of weekly windows"),
    ],
)
def test_every_kind_of_component_says_what_it_lacks(desk, draft, kind, component, complaint):
    filled = {"position": "1", "label": "Requests", "meter": meter("requests").pk, "scale": "1", **component}

    assert complaint in desk.post(adding(draft, kind), filled).content.decode()
    assert not draft.components.exists()


def test_commitment_and_weekly_price_are_filled_in_by_hand(desk, draft):
    windows = "Mon-Fri 08:00-20:00 Europe/Berlin"
    desk.post(adding(draft, "rate_card"), {"position": "1", "label": "Tokens", "multiplier": "1", "windows": windows})
    desk.post(adding(draft, "minimum"), {"position": "2", "label": "Commitment", "amount": "100", "counted": "1"})

    tokens, commitment = catalogue.components_of(draft)
    assert str(tokens.windows) == windows
    assert (commitment.amount, commitment.of) == (100, ("1",))
    assert "At least $100.00 a month" in desk.get(f"/admin/billing/planversion/{draft.pk}/change/").content.decode()


def test_components_of_a_published_version_are_only_shown(desk, draft):
    row = catalogue.add_rate_card(draft, label="Tokens")
    catalogue.publish_version(draft, now=LONG_AGO)

    assert desk.get(adding(draft, "minimum")).status_code == 403
    assert desk.get(f"/admin/billing/pricecomponent/{row.pk}/change/").status_code == 200
    assert desk.post(f"/admin/billing/pricecomponent/{row.pk}/change/", {"label": "X"}).status_code == 403


def test_terms_of_a_version_are_filled_in(desk, draft):
    filled = {
        "currency": "USD",
        "cadence": "3 months",
        "trial_days": "14",
        "credit_priority": "50",
        "credit_rolls_for": "0",
        "allowed_models": "claude-*, gpt-4o",
        "components-TOTAL_FORMS": "0",
        "components-INITIAL_FORMS": "0",
        "limits-0-measure": "requests",
        "limits-0-amount": "60",
        "limits-0-window": "minute",
        "limits-0-enforcement": "hard",
    }

    assert desk.post(f"/admin/billing/planversion/{draft.pk}/change/", filled).status_code == 302

    draft.refresh_from_db()
    assert (draft.cadence, draft.trial_days, draft.allowed_models) == ("3 months", 14, ["claude-*", "gpt-4o"])
    assert draft.limits[0]["amount"] == "60"
    bad = desk.post(f"/admin/billing/planversion/{draft.pk}/change/", {**filled, "limits-0-measure": "meter"})
    assert "names one whose totals can be added up" in bad.content.decode()
    assert (
        "Write"
        in desk.post(
            f"/admin/billing/planversion/{draft.pk}/change/", {**filled, "cadence": "12 months"}
        ).content.decode()
    )


# --- a draft on real months


@pytest.fixture
def subscription(globex):
    """$10 in September, $20 in October, for tokens alone."""
    price("input_tokens", "1.00")
    subscription = subscribed(globex, payg(), anchor=at(2026, 9))
    use(globex, at(2026, 9, 5), input_tokens=10_000_000)
    use(globex, at(2026, 10, 5), input_tokens=20_000_000)
    return subscription


def test_draft_is_computed_on_the_last_months_beside_what_they_cost(subscription, draft):
    catalogue.add_flat_fee(draft, label="Base", amount=Decimal(8), in_advance=True)
    catalogue.add_rate_card(draft, label="Tokens", meters=["input_tokens"], multiplier=Decimal("0.5"))

    october, september = preview_version(subscription, draft, NOW)

    assert (october.did_cost_minor, october.would_cost_minor, october.difference_minor) == (2000, 1800, -200)
    assert (september.did_cost_minor, september.would_cost_minor) == (1000, 1300)
    assert [(line.what, line.did_cost, line.would_cost) for line in october.lines] == [
        ("gpt-4o, input tokens", Decimal(20), Decimal(10)),
        ("Base", Decimal(0), Decimal(8)),
    ]


def test_version_compared_with_itself_is_its_invoices(globex):
    price("input_tokens", "1.00")
    version = team(in_advance=False)
    subscription = subscribed(globex, version, anchor=at(2026, 10))
    use(globex, at(2026, 10, 5), input_tokens=10_000_000)
    invoice = close_period(subscription, now=NOW)

    (october,) = preview_version(subscription, version, NOW)

    assert october.did_cost_minor == october.would_cost_minor == invoice.total_minor


def test_draft_of_another_rhythm_is_not_compared(subscription):
    with pytest.raises(DraftDoesNotFit):
        preview_version(subscription, team(cadence="year"), NOW)


def test_preview_page_shows_the_months_of_the_organisation_chosen(desk, globex, acme, subscription, draft):
    catalogue.add_rate_card(draft, label="Tokens", meters=["input_tokens"])
    address = f"/admin/billing/planversion/{draft.pk}/preview/"

    assert "On the usage of" in desk.get(address).content.decode()
    assert "$20.00" in desk.get(address, {"organisation": globex.pk}).content.decode()
    assert "no period that ended" in desk.get(address, {"organisation": acme.pk}).content.decode()
