"""The ledger of credit adds up, whatever happens in whatever order, and it is seen where it does not."""

import json
from contextlib import suppress
from datetime import timedelta
from decimal import Decimal
from itertools import count

import pytest
from django.core.management import call_command
from django.db import connection
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from billing import tasks
from billing.cockpit import cockpit
from billing.credit_checks import Rule, check_credits
from billing.crediting import NothingLeft, expire_grants, grant_credit, reverse_grant
from billing.invoicing import close_ended, close_period
from billing.models import CreditGrant, CreditsCheck, GrantKind, Invoice, LedgerEntry, PlanVersion
from billing.plan_credits import grant_due_credit
from tests import factories
from tests.billing.billing_builders import at, payg, price, subscribed, use
from tests.billing.test_closing_concurrency import in_parallel
from tests.billing.test_plan_credits import with_credit

pytestmark = pytest.mark.django_db
OCTOBER = at(2026, 10)
DOLLAR = 1_000_000
ENTRIES = "UPDATE billing_ledgerentry"


def credit(organisation, amount: str, *, now, **changes) -> CreditGrant:
    values = {"kind": GrantKind.MANUAL, "currency": "USD", "reason": "Goodwill"} | changes
    return grant_credit(organisation, amount=Decimal(amount), now=now, **values)


@pytest.fixture
def invoice(globex) -> Invoice:
    price("input_tokens", "1.00")
    subscription = subscribed(globex, payg(), anchor=OCTOBER)
    credit(globex, "7.5", now=OCTOBER)
    use(globex, at(2026, 10, 5), input_tokens=10 * DOLLAR)
    return close_period(subscription, now=at(2026, 11, 2))


def tampered(*statements: str) -> set[Rule]:
    """What is found after changes that the database normally refuses."""
    connection.check_constraints()
    with connection.cursor() as cursor:
        cursor.execute("SET session_replication_role = replica")
        for statement in statements:
            cursor.execute(statement)
        cursor.execute("SET session_replication_role = origin")
    return {finding.rule for finding in check_credits()}


def test_a_sound_ledger_has_nothing_to_find(globex, invoice):
    assert check_credits() == check_credits(globex) == []
    call_command("check_credits")


@pytest.mark.parametrize(
    ("statement", "rules"),
    [
        (f"{ENTRIES} SET amount = amount + 1 WHERE account = 'used'", {"movement", "grant", "invoice"}),
        (f"{ENTRIES} SET amount = amount - 9 WHERE account = 'used'", {"movement", "grant", "invoice", "overdrawn"}),
        ("UPDATE billing_creditgrant SET amount = 8", {"grant"}),
        ("UPDATE billing_invoiceline SET amount_exact = -7 WHERE kind = 'credit'", {"invoice"}),
        ("DELETE FROM billing_invoiceline WHERE kind = 'credit'", {"invoice"}),
        ("DELETE FROM billing_ledgerentry", {"grant", "invoice"}),
        ("UPDATE billing_creditgrant SET currency = 'EUR'", {"owner"}),
    ],
)  # fmt: skip
def test_what_does_not_add_up_is_found(invoice, statement, rules):
    assert tampered(statement) == rules


def test_what_is_found_is_kept_shown_and_told(globex, invoice, capsys):
    tasks.check_credits()
    assert _gauge() == ("equal", "good")
    tampered("UPDATE billing_invoiceline SET amount_exact = -7 WHERE kind = 'credit'")

    tasks.check_credits()
    with pytest.raises(SystemExit):
        call_command("check_credits", "--json", "--organisation", "globex")

    [finding] = json.loads(capsys.readouterr().out)["items"]
    assert (finding["rule"], finding["place"], finding["expected"], finding["found"]) == (
        "invoice", invoice.number, "7", "7.5",
    )  # fmt: skip
    assert CreditsCheck.objects.first().detail[0]["sentence"] == finding["sentence"]
    assert _gauge() == ("1 differences", "bad")


def _gauge() -> tuple[str, str]:
    return next((one.value, one.mood) for one in cockpit().money if one.label == "Credit against invoices")


# --- Whatever happens ---------------------------------------------------------------------------------------------

NUMBERS = count(1)
STEP = st.tuples(
    st.sampled_from(["grant", "expiring", "limited", "first", "use", "close", "expire", "reverse", "rest"]),
    st.integers(1, 30),
)


@pytest.fixture
def version() -> PlanVersion:
    price("input_tokens", "1.00")
    price("output_tokens", "0.3333333")
    return with_credit(amount="3", rolls_for=1, most="2")


@given(st.lists(STEP, min_size=4, max_size=14))
@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_grants_are_what_was_used_is_left_has_expired_and_was_taken_back(gus, version, steps):
    organisation = factories.organisation(f"Org {next(NUMBERS)}", gus)
    factories.api_key(organisation, "key")
    subscribed(organisation, version, anchor=OCTOBER)
    now = OCTOBER + timedelta(hours=5)
    for number, (kind, size) in enumerate(steps):
        now += timedelta(hours=31 * size % 190 + number)
        _do(organisation, kind, size, now)
        assert check_credits(organisation) == []
    assert all(invoice.total_exact >= 0 for invoice in Invoice.objects.filter(organisation=organisation))


def _do(organisation, kind: str, size: int, now) -> None:
    match kind:
        case "grant":
            credit(organisation, f"{size}.07", now=now)
        case "expiring":
            credit(organisation, str(size), now=now, expires_at=now + timedelta(days=size))
        case "limited":
            credit(organisation, str(size), now=now, meters=["output_tokens"], priority=1)
        case "first":
            credit(organisation, str(size), now=now, effective_at=now + timedelta(days=size), priority=1)
        case "use":
            use(organisation, now, input_tokens=size * 777_777, output_tokens=size * 333_333)
        case "close":
            close_ended(now)
        case "expire":
            expire_grants(now)
        case "rest":
            grant_due_credit(now)
        case "reverse":
            _reverse_one(organisation, size, now)


def _reverse_one(organisation, size: int, now) -> None:
    grants = list(CreditGrant.objects.filter(organisation=organisation).order_by("pk"))
    if grants:
        with suppress(NothingLeft):
            reverse_grant(grants[size % len(grants)], now=now)


@pytest.mark.django_db(transaction=True)
def test_closing_and_taking_back_at_once_never_use_the_same_credit_twice(gus):
    price("input_tokens", "1.00")
    version, grants = payg(), []
    for number in range(6):
        organisation = factories.organisation(f"Org {number}", gus)
        factories.api_key(organisation, "key")
        subscribed(organisation, version, anchor=OCTOBER)
        use(organisation, at(2026, 10, 5), input_tokens=10 * DOLLAR)
        grants.append(credit(organisation, "6", now=OCTOBER, expires_at=at(2026, 11)))
    later = at(2026, 11, 2)

    def act(number: int) -> None:
        if number in (0, 9):
            close_ended(later)
        elif number == 7:
            expire_grants(later)
        else:
            with suppress(NothingLeft):
                reverse_grant(grants[number % 6], now=later)

    in_parallel(act, range(10))

    assert check_credits() == []
    assert Invoice.objects.count() == 6
    for invoice in Invoice.objects.all():
        used = LedgerEntry.objects.filter(transaction__invoice=invoice, account="used").first()
        assert invoice.total_minor == (400 if used else 1000)
