"""What grants pay of charges, as arithmetic: never more than there is on either side, and nothing twice."""

from datetime import timedelta
from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from billing.drawing import Charge, Holding, after, planned_draws
from billing.models import CreditGrant, GrantKind
from billing.money import exact_sum
from tests.billing.billing_builders import at

NOW = at(2026, 10, 5)
METERS = ["", "input_tokens", "output_tokens"]
AMOUNTS = st.decimals(0, 100, places=7)


@st.composite
def holdings(draw) -> list[Holding]:
    found = []
    for pk in range(1, draw(st.integers(1, 6))):
        grant = CreditGrant(
            pk=pk,
            kind=draw(st.sampled_from([GrantKind.MANUAL, GrantKind.PLAN])),
            priority=draw(st.integers(0, 2)),
            effective_at=NOW + timedelta(days=draw(st.integers(0, 3))),
            expires_at=draw(st.one_of(st.none(), st.just(NOW + timedelta(days=9)))),
            meters=draw(st.lists(st.sampled_from(METERS[1:]), unique=True)),
        )
        found.append(Holding(grant, draw(AMOUNTS)))
    return found


CHARGES = st.lists(st.builds(Charge, st.sampled_from(METERS), st.decimals(-50, 100, places=9)), max_size=8)


@given(holdings(), CHARGES)
def test_no_more_is_paid_than_is_left_owed_or_meant_for_it(given_holdings, charges):
    draws = planned_draws(given_holdings, charges)

    owed = exact_sum(charge.amount for charge in charges)
    left = {one.grant.pk: one.left for one in given_holdings}
    paid = exact_sum(draw.amount for draw in draws)
    assert 0 <= paid <= max(owed, Decimal(0))
    assert all(0 < draw.amount <= left[draw.grant.pk] and draw.had == left[draw.grant.pk] for draw in draws)
    for draw in draws:
        payable = {meter for meter in METERS if draw.grant.pays(meter)}
        by_meter = [exact_sum(one.amount for one in charges if one.meter == meter) for meter in payable]
        assert draw.amount <= sum(max(amount, Decimal(0)) for amount in by_meter)


@given(holdings(), CHARGES)
def test_what_one_bill_leaves_pays_no_more_of_the_same_charges_than_is_still_owed(given_holdings, charges):
    draws = planned_draws(given_holdings, charges)
    rest = after(given_holdings, draws)
    before, behind = (exact_sum(one.left for one in some) for some in (given_holdings, rest))
    assert before - behind == exact_sum(draw.amount for draw in draws)


@given(holdings(), CHARGES)
def test_the_order_of_grants_and_charges_changes_nothing_that_is_paid_in_all(given_holdings, charges):
    draws = planned_draws(given_holdings, charges)
    turned = planned_draws(given_holdings[::-1], charges)
    assert [(draw.grant.pk, draw.amount) for draw in draws] == [(draw.grant.pk, draw.amount) for draw in turned]


@given(holdings(), CHARGES, st.integers(1, 5), AMOUNTS)
def test_a_bound_holds(given_holdings, charges, bounded, most):
    draws = planned_draws(given_holdings, charges, most={bounded: most})
    assert all(draw.amount <= most for draw in draws if draw.grant.pk == bounded)


def test_what_only_a_later_grant_is_for_is_left_to_it():
    general = Holding(CreditGrant(pk=1, kind=GrantKind.MANUAL, effective_at=NOW), Decimal(5))
    limited = Holding(CreditGrant(pk=2, kind=GrantKind.MANUAL, effective_at=NOW, meters=["output_tokens"]), Decimal(5))
    charges = [Charge("output_tokens", Decimal(5)), Charge("", Decimal(5))]

    assert [draw.amount for draw in planned_draws([general, limited], charges)] == [5, 5]
