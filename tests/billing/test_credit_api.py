"""/v1/credits: read by everybody for their own, granted and taken back by the operator's software alone."""

from decimal import Decimal

import pytest
import time_machine

from accounts.models import AuditEntry
from billing.crediting import grant_credit
from billing.invoicing import close_period
from billing.models import CreditGrant
from billing.prepaid import agree_prepaid
from tests import factories
from tests.billing.billing_builders import at, pay_by_credit, payg, price, subscribed, use

NOW = at(2026, 11, 22, 18)
TERMS = {"kind": "promotional", "amount": "25.5", "currency": "usd", "reason": "Welcome", "meters": ["input_tokens"]}


@pytest.fixture(autouse=True)
def _at_a_fixed_time():
    with time_machine.travel(NOW, tick=False):
        yield


@pytest.fixture
def operators(api, service_token):
    return api(service_token.secret)


@pytest.fixture
def own(api, globex):
    return api(factories.access_token(globex).secret)


def given_credit(organisation, amount: str, **changes) -> CreditGrant:
    values = {"kind": "manual", "currency": "USD", "reason": "Goodwill", "now": NOW} | changes
    return grant_credit(organisation, amount=Decimal(amount), **values)


def test_balance_and_grants_are_read(own, globex):
    second = given_credit(globex, "10")
    first = given_credit(globex, "1", priority=1)
    answer = own.get("/v1/credits").json()
    assert answer["balances"] == [{"currency": "USD", "usable": "11", "coming": "0"}]
    assert [(item["id"], item["place"]) for item in answer["items"]] == [(first.public_id, 1), (second.public_id, 2)]
    page = own.get("/v1/credits?limit=1").json()
    assert page["next_cursor"] == first.public_id
    assert own.get(f"/v1/credits?limit=1&cursor={first.public_id}").json()["items"][0]["id"] == second.public_id


def test_prepaid_organisations_read_what_calls_can_still_use(own, globex):
    assert own.get("/v1/credits").json()["prepaid"] is None
    price("input_tokens", "2.50", model="gpt-4o")
    subscribed(globex, payg(), anchor=at(2026, 11))
    given_credit(globex, "20")
    agree_prepaid(globex, overdraft=Decimal("1.5"), now=NOW)
    use(globex, at(2026, 11, 22, 17), input_tokens=4_000_000)
    assert own.get("/v1/credits").json()["prepaid"] == {
        "currency": "USD",
        "booked": "20",
        "unbilled": "10",
        "set_aside": "0",
        "held": "0",
        "effective": "10",
        "overdraft": "1.5",
        "spendable": "11.5",
    }


def test_movements_come_in_pages_oldest_first(own, globex):
    price("input_tokens", "2.50", model="gpt-4o")
    subscription = subscribed(globex, payg(), anchor=at(2026, 10))
    use(globex, at(2026, 10, 5), input_tokens=4_000_000)
    invoice = close_period(subscription, now=at(2026, 11, 1, 2))
    grant = given_credit(globex, "20")
    pay_by_credit(invoice, "12.40", NOW)

    address = f"/v1/credits/{grant.public_id}/movements"
    first = own.get(f"{address}?limit=1").json()
    second = own.get(f"{address}?limit=1&cursor={first['next_cursor']}").json()

    assert [(one["number"], one["kind"], one["amount"]) for one in first["items"]] == [(1, "granted", "20")]
    assert second["items"] == [
        {
            "number": 2,
            "kind": "used",
            "at": "2026-11-22T18:00:00Z",
            "amount": "-12.4",
            "left_after": "7.6",
            "invoice": invoice.number,
        }
    ]
    assert second["next_cursor"] is None
    assert own.get(f"{address}?cursor=grant_1").json()["code"] == "invalid_cursor"


def test_credit_is_granted_once_however_often_it_is_sent(operators, globex):
    headers = {"Idempotency-Key": "order-1"}
    body = {**TERMS, "organisation": "globex"}
    first = operators.post("/v1/credits", body, headers=headers)
    again = operators.post("/v1/credits", body, headers=headers)
    assert (first.status_code, again.status_code) == (201, 200)
    assert first.json() == again.json()
    grant = CreditGrant.objects.get()
    assert (grant.amount, grant.currency, grant.meters) == (Decimal("25.5"), "USD", ["input_tokens"])
    other = operators.post("/v1/credits", {**body, "amount": "26"}, headers=headers)
    assert (other.status_code, other.json()["code"]) == (422, "idempotency_key_reused")
    assert AuditEntry.objects.filter(action="credit.granted").count() == 1


@pytest.mark.parametrize(
    ("changes", "status"),
    [({"meters": ["nothing"]}, 422), ({"currency": "XXX"}, 422), ({"amount": "-1"}, 422), ({"kind": "plan"}, 400)],
)
def test_unsound_grants_are_refused(operators, globex, changes, status):
    answer = operators.post("/v1/credits?organisation=globex", TERMS | changes)
    assert answer.status_code == status
    assert not CreditGrant.objects.exists()


def test_what_is_left_is_taken_back(operators, globex):
    address = f"/v1/credits/{given_credit(globex, '20').public_id}/reversal?organisation=globex"
    headers = {"Idempotency-Key": "mistake-1"}
    for _ in range(2):
        answer = operators.post(address, headers=headers)
        assert (answer.status_code, answer.json()["status"], answer.json()["reversed"]) == (200, "reversed", "20")
    again = operators.post(address)
    assert (again.status_code, again.json()["code"]) == (409, "nothing_left")


def test_customers_neither_grant_nor_take_back(own, operators, globex, acme):
    grant = given_credit(globex, "20")
    assert own.post("/v1/credits", TERMS).status_code == 403
    assert own.post(f"/v1/credits/{grant.public_id}/reversal").status_code == 403
    assert operators.post(f"/v1/credits/{grant.public_id}/reversal?organisation=acme").status_code == 404
