"""Credit in the admin: granted after a look, taken back after a question; nobody edits the ledger."""

from decimal import Decimal

import pytest
import time_machine
from django.contrib.auth.models import Permission

from accounts.models import AuditEntry
from billing.crediting import GrantInvalid, balance, grant_credit
from billing.invoicing import close_period
from billing.models import CreditGrant, GrantKind
from tests import factories
from tests.billing.billing_builders import at, pay_by_credit, payg, price, subscribed, use

NOW = at(2026, 11, 22, 18)
LIST = "/admin/billing/creditgrant/"


@pytest.fixture(autouse=True)
def _at_a_fixed_time():
    with time_machine.travel(NOW, tick=False):
        yield


@pytest.fixture
def desk(client_for, operator):
    return client_for(operator)


@pytest.fixture
def grant(globex) -> CreditGrant:
    return grant_credit(
        globex,
        kind=GrantKind.PROMOTIONAL,
        amount=Decimal(20),
        currency="USD",
        reason="Welcome",
        meters=["input_tokens"],
        now=NOW,
    )


def terms(organisation, **changes) -> dict[str, object]:
    return {
        "organisation": organisation.pk,
        "kind": "promotional",
        "amount": "25.50",
        "currency": "usd",
        "priority": "10",
        "reason": "For the outage",
        "meters": ["input_tokens", "output_tokens"],
        "expires_at_0": "2026-12-31",
        "expires_at_1": "00:00:00",
    } | changes


def page_of(grant: CreditGrant, act: str = "change") -> str:
    return f"{LIST}{grant.pk}/{act}/"


def test_credit_is_granted_after_a_look(desk, operator, globex):
    shown = desk.post(f"{LIST}add/", terms(globex, preview="yes")).content.decode()

    assert "What Globex will see" in shown
    assert "Pays for input tokens and output tokens only." in shown
    assert not CreditGrant.objects.exists()
    desk.post(f"{LIST}add/", terms(globex))
    grant = CreditGrant.objects.get()
    assert (grant.amount, grant.currency, grant.priority) == (Decimal("25.50"), "USD", 10)
    assert (grant.expires_at, grant.meters) == (at(2026, 12, 31), ["input_tokens", "output_tokens"])
    assert AuditEntry.objects.get(action="credit.granted").actor == operator


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"amount": "0"}, "above zero"),
        ({"amount": "1000000000000"}, "below 1,000,000,000,000"),
        ({"currency": "XXX"}, "above zero in a currency"),
        ({"expires_at_0": "2026-11-01"}, "not in the past"),
        ({"reason": " "}, "required"),
        ({"meters": ["no_such_meter"]}, "not one of the available choices"),
    ],
)
def test_what_cannot_be_granted_is_said_at_the_form(desk, globex, changes, sentence):
    page = desk.post(f"{LIST}add/", terms(globex, **changes))
    assert sentence in page.content.decode()
    assert not CreditGrant.objects.exists()


def test_unknown_meters_and_kinds_are_refused_by_the_verb(globex):
    usual = {"amount": Decimal(1), "currency": "USD", "reason": "Goodwill", "now": NOW}
    with pytest.raises(GrantInvalid, match="no meter called “no_such_meter”"):
        grant_credit(globex, kind="manual", meters=["no_such_meter"], **usual)
    with pytest.raises(GrantInvalid, match="no kind of credit called “gift”"):
        grant_credit(globex, kind="gift", **usual)


def test_page_of_a_grant_shows_every_movement(desk, globex, grant):
    price("input_tokens", "2.50", model="gpt-4o")
    subscription = subscribed(globex, payg(), anchor=at(2026, 10))
    use(globex, at(2026, 10, 5), input_tokens=4_000_000)
    invoice = close_period(subscription, now=at(2026, 11, 1, 2))
    pay_by_credit(invoice, "12.40", NOW)

    page = desk.get(page_of(grant)).content.decode()

    assert "$12.40 used, $7.60 left" in page
    assert invoice.number in page
    assert desk.post(page_of(grant), {"reason": "Another"}).status_code == 403


def test_what_is_left_is_taken_back_after_a_question(desk, operator, globex, grant):
    asked = desk.get(page_of(grant, "reversal")).content.decode()
    assert "Take back $20.00 of Welcome?" in asked
    assert balance(globex, currency="USD", now=NOW) == 20

    desk.post(page_of(grant, "reversal"), {"confirmed": "yes"})

    assert balance(globex, currency="USD", now=NOW) == 0
    assert AuditEntry.objects.get(action="credit.reversed").actor == operator
    again = desk.post(page_of(grant, "reversal"), {"confirmed": "yes"}, follow=True)
    assert "Nothing is left of this credit." in again.content.decode()


def test_grants_are_found_by_what_is_left(desk, grant):
    assert "Welcome" in desk.get(LIST, {"left": "some", "q": "globex"}).content.decode()
    assert "Welcome" not in desk.get(LIST, {"left": "none"}).content.decode()
    assert desk.get("/admin/billing/ledgertransaction/").status_code == 200


def test_who_may_only_look_neither_grants_nor_takes_back(client_for, grant, globex):
    clerk = factories.user("clerk@kilotoken.example")
    clerk.is_staff = True
    clerk.save()
    clerk.user_permissions.add(Permission.objects.get(codename="view_creditgrant"))
    desk = client_for(clerk)
    assert desk.get(page_of(grant)).status_code == 200
    assert desk.post(f"{LIST}add/", terms(globex)).status_code == 403
    assert desk.post(page_of(grant, "reversal"), {"confirmed": "yes"}).status_code == 403
    assert balance(globex, currency="USD", now=NOW) == 20
