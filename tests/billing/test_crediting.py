"""Credits: what grants pay and in which order, and that the ledger always adds up."""

from datetime import timedelta
from decimal import Decimal

import pytest
from django.db import DatabaseError, IntegrityError, connection, transaction
from django.db.models import Sum
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from accounts.models import AuditEntry
from billing.crediting import (
    GrantInvalid,
    NothingLeft,
    balance,
    book_draws,
    expire_grants,
    grant_credit,
    reverse_grant,
)
from billing.drawing import Charge, planned_draws
from billing.holdings import locked_holdings, remaining, unused_holdings
from billing.invoicing import close_period
from billing.models import CreditGrant, GrantKind, Invoice, LedgerAccount, LedgerEntry, LedgerTransaction
from billing.money import EXACT
from tests.billing.billing_builders import at, payg, price, subscribed, use

NOW = at(2026, 10, 5)


def given_credit(organisation, amount: str, **changes) -> CreditGrant:
    values = {"kind": GrantKind.MANUAL, "currency": "USD", "reason": "Goodwill", "now": NOW} | changes
    return grant_credit(organisation, amount=Decimal(amount), **values)


@pytest.fixture
def invoice(globex) -> Invoice:
    price("input_tokens", "2.50", model="gpt-4o")
    subscription = subscribed(globex, payg(), anchor=at(2026, 10))
    use(globex, NOW, input_tokens=4_000_000)
    return close_period(subscription, now=at(2026, 11, 1, 2))


def test_granting_is_booked_and_recorded(globex):
    grant = given_credit(globex, "20")
    assert balance(globex, currency="USD", now=NOW) == 20
    assert balance(globex, currency="EUR", now=NOW) == 0
    assert AuditEntry.objects.filter(action="credit.granted", subject_id=grant.public_id).exists()


def test_unsound_grants_are_refused(globex):
    for changes in ({"currency": "XXX"}, {"expires_at": NOW}):
        with pytest.raises(GrantInvalid):
            given_credit(globex, "20", **changes)
    with pytest.raises(GrantInvalid):
        given_credit(globex, "0")


def test_priority_comes_before_expiry_before_age(globex):
    oldest = given_credit(globex, "1", effective_at=NOW - timedelta(days=9))
    expiring = given_credit(globex, "1", expires_at=NOW + timedelta(days=9))
    first = given_credit(globex, "1", priority=1)
    draws = planned_draws(unused_holdings([globex])[globex.pk], [Charge("", Decimal("2.5"))])
    assert [(draw.grant, draw.amount) for draw in draws] == [(first, 1), (expiring, 1), (oldest, Decimal("0.5"))]


def test_credit_for_a_meter_pays_only_its_charges(globex):
    given_credit(globex, "10", meters=["input_tokens"])
    charges = [Charge("", Decimal(5)), Charge("input_tokens", Decimal(3))]
    [draw] = planned_draws(unused_holdings([globex])[globex.pk], charges)
    assert (draw.had, draw.amount, draw.left) == (10, 3, 7)


def test_an_invoice_uses_credit_once(globex, invoice):
    given_credit(globex, "20")
    with transaction.atomic():
        draws = planned_draws(locked_holdings([globex])[globex.pk], [Charge("input_tokens", Decimal("12.40"))])
        book_draws([(invoice, draws)], NOW)
    assert balance(globex, currency="USD", now=NOW) == Decimal("7.60")
    with pytest.raises(IntegrityError), transaction.atomic():
        book_draws([(invoice, draws)], NOW)


def test_draws_are_exact_to_any_number_of_places(globex, invoice):
    given_credit(globex, "20")
    third = Decimal(1) / 3 * Decimal("1e-9")
    draws = planned_draws(unused_holdings([globex])[globex.pk], [Charge("", third)])
    book_draws([(invoice, draws)], NOW)
    assert balance(globex, currency="USD", now=NOW) == EXACT.subtract(Decimal(20), third)


def test_what_is_left_can_be_reversed_once(globex):
    grant = given_credit(globex, "20")
    assert reverse_grant(grant, now=NOW) == 20
    with pytest.raises(NothingLeft):
        reverse_grant(grant, now=NOW)


def test_grants_expire_once(globex):
    given_credit(globex, "20", expires_at=NOW + timedelta(days=1))
    later = NOW + timedelta(days=1)
    assert balance(globex, currency="USD", now=later) == 0
    assert [expire_grants(NOW), expire_grants(later), expire_grants(later)] == [0, 1, 0]


def test_the_database_refuses_changes_and_lopsided_entries(globex):
    grant = given_credit(globex, "20")
    entry = LedgerEntry.objects.for_organisation(globex).first()
    for rows in (CreditGrant.objects.filter(pk=grant.pk), LedgerEntry.objects.filter(pk=entry.pk)):
        with pytest.raises(DatabaseError), transaction.atomic():
            rows.update(amount=1)
    LedgerEntry.objects.create(
        organisation=globex, transaction=entry.transaction, grant=grant, account=LedgerAccount.REMAINING, amount=1
    )
    with pytest.raises(DatabaseError):
        connection.check_constraints()


STEPS = st.lists(st.tuples(st.sampled_from(["grant", "expiring", "use", "reverse", "expire"]), st.integers(1, 50)))


@given(STEPS)
@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_happens_the_ledger_adds_up(globex, invoice, steps):
    with transaction.atomic():
        for kind, size in steps:
            _do(globex, invoice, kind, size)
        sums = dict(LedgerEntry.objects.order_by().values_list("account").annotate(Sum("amount")))
        granted = sum((grant.amount for grant in CreditGrant.objects.all()), Decimal(0))
        assert -sums.pop("granted", Decimal(0)) == granted == sum(sums.values())
        lopsided = LedgerEntry.objects.order_by().values("transaction").annotate(sum=Sum("amount")).exclude(sum=0)
        assert not lopsided.exists()
        assert all(left >= 0 for left in remaining(list(CreditGrant.objects.all())).values())
        transaction.set_rollback(True)


def _do(globex, invoice, kind: str, size: int) -> None:
    if kind == "grant":
        given_credit(globex, str(size))
    elif kind == "expiring":
        given_credit(globex, str(size), expires_at=NOW + timedelta(hours=size))
    elif kind == "use":
        if not LedgerTransaction.objects.filter(invoice=invoice).exists():
            draws = planned_draws(unused_holdings([globex]).get(globex.pk, []), [Charge("", Decimal(size))])
            book_draws([(invoice, draws)], NOW)
    elif kind == "expire":
        expire_grants(NOW + timedelta(days=40, hours=size))
    else:
        for grant in [grant for grant in CreditGrant.objects.all() if remaining([grant])[grant.pk]][:1]:
            reverse_grant(grant, now=NOW)
