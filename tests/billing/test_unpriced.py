"""Usage without a price as a work list, with the money at stake."""

from decimal import Decimal

import pytest

from billing import catalogue
from billing.models import PriceKind
from billing.price_book import add_price
from billing.unpriced import count_unpriced_models, unpriced_usage
from tests.billing.billing_builders import LONG_AGO, at, meter, payg, price, subscribed, use

NOW = at(2026, 10, 20)


@pytest.fixture
def _subscribed(globex):
    price("input_tokens", "2.00", model="gpt-4o")
    return subscribed(globex, payg(), anchor=at(2026, 10))


@pytest.mark.usefixtures("_subscribed")
def test_what_has_a_price_is_not_on_the_list(globex):
    use(globex, at(2026, 10, 3), input_tokens=1_000_000)
    assert unpriced_usage(NOW) == []
    assert count_unpriced_models(NOW) == 0


@pytest.mark.usefixtures("_subscribed")
def test_list_says_who_used_what_since_when_and_what_is_published_for_it(globex):
    use(globex, at(2026, 10, 3, 4, 10), "gpt-4.1", input_tokens=1_000_000)
    use(globex, at(2026, 10, 7), "gpt-4.1", input_tokens=2_000_000)
    use(globex, at(2026, 9, 7), "gpt-4.1", input_tokens=5_000_000)

    (row,) = unpriced_usage(NOW)

    assert (row.organisation, row.meter.key, row.model, row.quantity) == (globex, "input_tokens", "gpt-4.1", 3_000_000)
    assert row.since == at(2026, 10)  # the reading that it is part of
    assert (row.at_stake, row.estimate.basis) == (6, "as published")
    assert count_unpriced_models(NOW) == 1


@pytest.mark.usefixtures("_subscribed")
def test_our_own_cost_comes_before_what_is_published(globex):
    tokens = meter("input_tokens")
    cost = {"currency": "USD", "amount": Decimal("1.5"), "valid_from": LONG_AGO, "kind": PriceKind.COST}
    add_price(tokens, model="gpt-4.1", **cost)
    use(globex, at(2026, 10, 3), "gpt-4.1", input_tokens=1_000_000)
    (row,) = unpriced_usage(NOW)
    assert (row.at_stake, row.estimate.basis) == (Decimal("1.5"), "what the provider charges us")


@pytest.mark.usefixtures("_subscribed")
def test_what_nobody_publishes_is_estimated_like_a_model_of_nearly_the_same_name_or_not_at_all(globex):
    price("input_tokens", "7.00", model="ours-large-1")
    use(globex, at(2026, 10, 3), "ours-large-2", input_tokens=1_000_000)
    use(globex, at(2026, 10, 3), "zebra", input_tokens=1_000_000)
    first, second = unpriced_usage(NOW)
    assert (first.model, first.at_stake, first.estimate.basis) == ("ours-large-2", 7, "like ours-large-1")
    assert (second.model, second.at_stake) == ("zebra", None)


def test_what_no_plan_charges_is_nobodys_work(globex):
    version = catalogue.draft_version(catalogue.create_plan("flat", name="Flat"), currency="USD")
    catalogue.add_flat_fee(version, label="Fee", amount=Decimal(10))
    subscribed(globex, catalogue.publish_version(version, now=LONG_AGO), anchor=at(2026, 10))
    use(globex, at(2026, 10, 3), "zebra", input_tokens=1_000_000)
    assert count_unpriced_models(NOW) == 0
    assert unpriced_usage(NOW) == []
