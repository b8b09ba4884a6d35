"""Prepaid organisations: what credit is worth beside what is used, and that calls stop exactly where it ends."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from decimal import Decimal

import pytest
import time_machine

from accounts.models import AuditEntry
from billing.crediting import expire_grants, grant_credit, reverse_grant
from billing.invoicing import close_period
from billing.models import CreditGrant, GrantKind, PrepaidTerms, Subscription
from billing.prepaid import (
    EffectiveBalance,
    NoPlanToPrepay,
    PrepaidInvalid,
    agree_prepaid,
    effective_balance,
    end_prepaid,
    tell_limits,
)
from metering.admission import release, settle
from metering.models import Hold, Quota, QuotaWindow, SetBy
from tests.billing.billing_builders import at, payg, price, subscribed, team, use
from tests.billing.test_closing_concurrency import in_parallel
from tests.metering.admission_world import ask
from tests.metering.test_admission_by_processes import allowed_in_processes
from tests.metering.usage_world import event, fold_all, send

pytestmark = pytest.mark.django_db
OCTOBER, NOVEMBER = at(2026, 10), at(2026, 11)
NOW = at(2026, 10, 5, 12)
# A dollar's worth.
DOLLAR = 1_000_000


@pytest.fixture(autouse=True)
def _clock() -> Iterator[None]:
    with time_machine.travel(NOW, tick=False):
        yield


@pytest.fixture
def subscription(acme, acme_key) -> Subscription:
    price("output_tokens", "1.00")
    return subscribed(acme, payg(), anchor=OCTOBER)


def credit(organisation, amount: str, *, now: datetime = NOW, **changes) -> CreditGrant:
    values = {"kind": GrantKind.PURCHASED, "currency": "USD", "reason": "Top-up"} | changes
    return grant_credit(organisation, amount=Decimal(amount), now=now, **values)


def prepaid(organisation, overdraft: str = "0", now: datetime = NOW) -> None:
    agree_prepaid(organisation, overdraft=Decimal(overdraft), now=now, actor="test")


def worth(organisation, now: datetime = NOW) -> EffectiveBalance:
    return effective_balance(organisation, "USD", now)


def left_to_admit(organisation) -> Decimal:
    quota = Quota.objects.active().get(organisation=organisation, set_by=SetBy.CREDIT)
    row = QuotaWindow.objects.filter(quota_id=quota.pk).first()
    return quota.amount - (row.used + row.held if row else 0)


def is_allowed(key, dollars: str, now: datetime = NOW) -> bool:
    return ask(key, now=now, output_tokens=int(Decimal(dollars) * DOLLAR)).is_allowed


def test_calls_stop_exactly_where_credit_ends(acme, acme_key, subscription):
    credit(acme, "5")
    prepaid(acme)

    assert [is_allowed(acme_key, dollars) for dollars in ("4.999999", "0.000002", "0.000001", "0.000001")] == [
        True, False, True, False,
    ]  # fmt: skip
    refusal = ask(acme_key, now=NOW, output_tokens=1).refusal
    assert refusal is not None
    assert refusal.code == "credit_exhausted"


def test_calls_stop_at_the_agreed_overdraft(acme, acme_key, subscription):
    prepaid(acme, "2.50")
    assert [is_allowed(acme_key, "2.50"), is_allowed(acme_key, "0.01")] == [True, False]
    found = worth(acme)
    assert (found.effective, found.overdraft, found.spendable) == (Decimal("-2.5"), Decimal("2.5"), 0)


def test_use_from_before_counts_and_so_does_use_that_nobody_asked_for(acme, acme_key, subscription):
    use(acme, NOW, output_tokens=3 * DOLLAR)
    credit(acme, "10")
    prepaid(acme)
    assert left_to_admit(acme) == 7
    use(acme, NOW, output_tokens=4 * DOLLAR)

    assert left_to_admit(acme) == 3
    assert tell_limits(NOW) == 1
    assert left_to_admit(acme) == 3
    assert (worth(acme).booked, worth(acme).unbilled, worth(acme).effective) == (10, 7, 3)


def test_credit_lets_more_through_at_once_and_taking_it_back_stops_the_next_call(acme, acme_key, subscription):
    credit(acme, "1")
    prepaid(acme)
    assert [is_allowed(acme_key, "1"), is_allowed(acme_key, "1")] == [True, False]

    grant = credit(acme, "2")
    assert is_allowed(acme_key, "1.5")
    reverse_grant(grant, now=NOW)

    assert not is_allowed(acme_key, "0.1")
    assert left_to_admit(acme) == Decimal("-1.5")


def test_what_is_charged_less_than_it_was_quoted_comes_back_with_the_next_sweep(acme, acme_key):
    price("output_tokens", "1.00")
    subscribed(acme, payg(included={"output_tokens": Decimal(2 * DOLLAR)}), anchor=OCTOBER)
    credit(acme, "5")
    prepaid(acme)
    use(acme, NOW, output_tokens=5 * DOLLAR)
    assert left_to_admit(acme) == 0

    tell_limits(NOW)

    assert left_to_admit(acme) == worth(acme).effective == 2


def test_fees_of_the_bill_count(acme, acme_key):
    subscribed(acme, team(fee="49", in_advance=False), anchor=OCTOBER)
    credit(acme, "50")
    prepaid(acme)
    assert (left_to_admit(acme), worth(acme).unbilled) == (1, 49)


def test_calls_in_flight_and_those_not_metered_yet_are_taken_off(acme, acme_key, subscription):
    credit(acme, "5")
    prepaid(acme)
    told, freed = (ask(acme_key, now=NOW, output_tokens=count * DOLLAR) for count in (3, 1))
    settle(Hold.objects.get(id=told.id), {"output_tokens": Decimal(2 * DOLLAR)}, now=NOW)
    assert (worth(acme).held, worth(acme).effective) == (3, 2)
    tell_limits(NOW)
    assert left_to_admit(acme) == 2

    release(Hold.objects.get(id=freed.id), now=NOW)
    send(event(acme_key.api_key.public_id, NOW, model="m-1", output_tokens=2 * DOLLAR, admission=told.id), now=NOW)
    fold_all(NOW)
    tell_limits(NOW)

    assert (worth(acme).held, worth(acme).unbilled, worth(acme).effective) == (0, 2, 3)
    assert left_to_admit(acme) == 3


def test_closing_a_period_changes_nothing_that_credit_paid(acme, acme_key, subscription):
    credit(acme, "10")
    prepaid(acme)
    use(acme, NOW, output_tokens=4 * DOLLAR)
    later = NOVEMBER + timedelta(hours=2)
    tell_limits(later)
    assert left_to_admit(acme) == worth(acme, later).effective == 6

    close_period(subscription, now=later)

    assert PrepaidTerms.objects.get().told_at is None
    assert left_to_admit(acme) == 6
    tell_limits(later)
    assert left_to_admit(acme) == worth(acme, later).effective == 6
    assert (worth(acme, later).booked, worth(acme, later).unbilled) == (6, 0)


def test_an_overdraft_that_was_invoiced_can_be_used_again(acme, acme_key, subscription):
    prepaid(acme, "5")
    use(acme, NOW, output_tokens=3 * DOLLAR)
    later = NOVEMBER + timedelta(hours=2)
    invoice = close_period(subscription, now=later)
    assert left_to_admit(acme) == 2
    tell_limits(later)
    assert (invoice.total_minor, left_to_admit(acme)) == (300, 5)


def test_credit_for_a_meter_is_set_aside_while_other_charges_are_not_paid(acme, acme_key, subscription):
    price("input_tokens", "1.00")
    credit(acme, "10", meters=["output_tokens"])
    prepaid(acme)
    assert left_to_admit(acme) == 10
    use(acme, NOW, input_tokens=3 * DOLLAR, output_tokens=1 * DOLLAR)

    found = worth(acme)

    assert (found.booked, found.unbilled, found.set_aside, found.effective) == (10, 4, 9, -3)
    tell_limits(NOW)
    assert left_to_admit(acme) < 0
    credit(acme, "4")
    assert (worth(acme).set_aside, left_to_admit(acme)) == (0, 10)


def test_expired_credit_still_pays_what_was_used_and_nothing_new(acme, acme_key, subscription):
    credit(acme, "10", expires_at=at(2026, 10, 10))
    prepaid(acme)
    use(acme, NOW, output_tokens=4 * DOLLAR)
    later = at(2026, 10, 11)

    tell_limits(later)

    found = worth(acme, later)
    assert (found.booked, found.unbilled, found.effective, left_to_admit(acme)) == (0, 0, 0, 0)
    use(acme, later, output_tokens=1 * DOLLAR)
    assert worth(acme, later).effective == -1
    close_period(subscription, now=NOVEMBER + timedelta(hours=2))
    assert expire_grants(NOVEMBER + timedelta(hours=2)) == 1


def test_credit_to_come_counts_once_it_begins(acme, acme_key, subscription):
    credit(acme, "10", effective_at=at(2026, 10, 6))
    prepaid(acme)
    assert left_to_admit(acme) == 0
    tell_limits(at(2026, 10, 6))
    assert left_to_admit(acme) == 10


def test_terms_are_audited_and_end(acme, acme_key, subscription):
    with pytest.raises(PrepaidInvalid):
        prepaid(acme, "-1")
    prepaid(acme, "1")
    prepaid(acme, "2")
    end_prepaid(acme, now=NOW, actor="test")
    end_prepaid(acme, now=NOW, actor="test")

    assert not Quota.objects.active().filter(organisation=acme).exists()
    assert is_allowed(acme_key, "100")
    acts = AuditEntry.objects.filter(organisation=acme, action__startswith="prepaid.").order_by("pk")
    assert [(act.action, act.details.get("overdraft")) for act in acts] == [
        ("prepaid.agreed", "1"), ("prepaid.agreed", "2"), ("prepaid.ended", None),
    ]  # fmt: skip
    assert not worth(acme).is_prepaid


def test_without_a_plan_there_is_nothing_to_prepay(globex):
    with pytest.raises(NoPlanToPrepay):
        prepaid(globex)


@pytest.mark.django_db(transaction=True)
def test_two_hundred_calls_at_once_never_spend_more_than_credit(acme, acme_key, subscription):
    credit(acme, "5")
    prepaid(acme)

    with time_machine.travel(NOW, tick=True):
        allowed = allowed_in_processes(acme_key, NOW, *[range(70_000, 90_000, 500)] * 5)

    assert Hold.objects.count() == allowed
    assert 0 <= left_to_admit(acme) < Decimal("0.09")


@pytest.mark.django_db(transaction=True)
def test_credit_granted_and_taken_back_at_once_is_told_to_the_cent(acme, acme_key, subscription):
    prepaid(acme)
    mistaken = [credit(acme, "1") for _ in range(6)]

    def move(number: int) -> None:
        if number % 2:
            reverse_grant(mistaken[number // 2], now=NOW)
        else:
            credit(acme, "3")

    in_parallel(move, range(12))

    assert left_to_admit(acme) == worth(acme).effective == 18
