"""What anybody may read: the front page, and prices as they are in force."""

from billing import catalogue
from tests.billing.billing_builders import at, payg, price, team


def test_front_page_opens_without_plans_or_prices(client, db):
    assert client.get("/").status_code == 200


def test_pricing_shows_public_plans_and_prices_in_force(client, db):
    price("input_tokens", "0.20", model="gpt-4o")
    price("input_tokens", "0.15", model="gpt-4o", valid_from=at(2026, 1))
    price("input_tokens", "99", model="gpt-4o", valid_from=at(2099, 1))
    price("input_tokens", "7", model="old", valid_until=at(2025, 6))
    payg()
    hidden = team("hidden")
    hidden.plan.is_public = False
    hidden.plan.save()
    catalogue.draft_version(catalogue.create_plan("draft", name="Drafted", is_public=True), currency="USD")

    page = client.get("/pricing/").content.decode()

    assert "$0.15 / 1M" in page
    assert "Payg" in page
    for absent in ("$0.20", "$99", "$7.00", "Hidden", "Drafted"):
        assert absent not in page


def test_pricing_without_anything_on_offer_says_so(client, db):
    assert "No plans on offer yet" in client.get("/pricing/").content.decode()
