"""Credit as customers see it: each grant with what became of it, in the order of its use, and every movement."""

import re
from datetime import timedelta
from decimal import Decimal
from html import unescape

import pytest
import time_machine

from billing.credit_statement import GrantStatus, balances, grant_states, movements, prepaid_sum
from billing.crediting import expire_grants, grant_credit, reverse_grant
from billing.invoicing import close_period
from billing.models import CreditGrant, GrantKind, Invoice
from billing.prepaid import EffectiveBalance, agree_prepaid
from tests.billing.billing_builders import at, pay_by_credit, payg, price, subscribed, use

NOW = at(2026, 11, 22, 18)
PAGE = "/o/globex/credits/"


@pytest.fixture(autouse=True)
def _at_a_fixed_time():
    with time_machine.travel(NOW, tick=False):
        yield


@pytest.fixture
def page(client_for, gus, globex):
    """Reads the page as one text."""
    client = client_for(gus)

    def read(query: str = "") -> str:
        response = client.get(PAGE + query)
        assert response.status_code == 200
        return " ".join(unescape(re.sub("<[^>]+>", " ", response.content.decode())).split())

    return read


@pytest.fixture
def invoice(globex) -> Invoice:
    price("input_tokens", "2.50", model="gpt-4o")
    subscription = subscribed(globex, payg(), anchor=at(2026, 10))
    use(globex, at(2026, 10, 5), input_tokens=4_000_000)
    return close_period(subscription, now=at(2026, 11, 1, 2))


def given_credit(organisation, amount: str, reason: str, *, now=NOW, **changes) -> CreditGrant:
    values = {"kind": GrantKind.PROMOTIONAL, "currency": "USD"} | changes
    return grant_credit(organisation, amount=Decimal(amount), reason=reason, now=now, **values)


def test_without_credit_the_page_says_what_credit_is(page):
    assert "Credit is money that pays bills before you do" in page()


def test_grants_stand_in_the_order_of_their_use(page, globex):
    given_credit(globex, "10", "Last")
    given_credit(globex, "5", "Middle", expires_at=NOW + timedelta(days=3))
    given_credit(globex, "1", "Front", priority=1, meters=["input_tokens", "output_tokens"])
    given_credit(globex, "7", "Next year", effective_at=NOW + timedelta(days=60))

    text = page()

    places = [text.index(words) for words in ("Front Used first", "Middle Used second", "Last Used third", "Next year")]
    assert places == sorted(places)
    assert "Can be used now $16.00 $5.00 of it expires 25 Nov 2026 . $7.00 more will come" in text
    assert "Pays for input tokens and output tokens only." in text


def test_what_became_of_each_grant_adds_up(page, globex, invoice):
    earlier = at(2026, 10, 1)
    partly = given_credit(globex, "20", "Partly used", now=earlier)
    given_credit(globex, "3", "Too late", now=earlier, expires_at=at(2026, 11, 20))
    mistaken = given_credit(globex, "4", "By mistake", now=earlier)
    pay_by_credit(invoice, "12.40", at(2026, 11, 21))
    expire_grants(NOW)
    reverse_grant(mistaken, now=NOW)

    states = {state.grant.reason: state for state in grant_states(globex, NOW)}

    assert all(one.used + one.left + one.lapsed == one.grant.amount for one in states.values())
    assert {reason: state.status for reason, state in states.items()} == {
        "Partly used": GrantStatus.USABLE,
        "Too late": GrantStatus.EXPIRED,
        "By mistake": GrantStatus.REVERSED,
    }
    text = page()
    assert "$7.60 left of $20.00 $12.40 used" in text
    assert f"Used Partly used {invoice.number} -$12.40 $7.60" in text
    assert [entry.left_after for entry in movements(CreditGrant.objects.filter(pk=partly.pk))] == [Decimal("7.60"), 20]


def test_past_its_end_nothing_is_left_before_that_is_booked(globex):
    given_credit(globex, "3", "Short", expires_at=NOW + timedelta(hours=1))
    [state] = grant_states(globex, NOW + timedelta(hours=2))
    assert state.status == GrantStatus.EXPIRED
    assert balances([state])[0].usable == 0


def test_currencies_stand_apart(page, globex):
    given_credit(globex, "10", "Dollars")
    given_credit(globex, "8", "Euros", currency="EUR")
    text = page()
    assert "Can be used now, EUR €8.00" in text
    assert "Can be used now, USD $10.00" in text
    assert "Used second" not in text


def test_history_and_what_is_over_come_in_pages(page, globex):
    for number in range(15):
        reverse_grant(given_credit(globex, "1", f"Gone {number}"), now=NOW)
    assert "Show all 15" in page()
    assert "Show all 15" not in page("?over=all")
    assert "1 to 20 of 30 movements" in page()
    assert "21 to 30 of 30 movements" in page("?page=2")


def test_prepaid_shows_a_sum_that_adds_up(page, globex):
    price("input_tokens", "2.50", model="gpt-4o")
    subscribed(globex, payg(), anchor=at(2026, 11))
    given_credit(globex, "20", "Top-up")
    agree_prepaid(globex, overdraft=Decimal(0), now=NOW)
    use(globex, NOW - timedelta(hours=1), input_tokens=4_000_000)
    text = page()
    assert "Credit, as booked $20.00 Used and not billed yet -$10.00 Held for calls in flight $0.00 Left $10.00" in text
    assert "Calls stop at zero." in text

    agree_prepaid(globex, overdraft=Decimal("2.5"), now=NOW)
    assert "Left $10.00 Agreed overdraft $2.50 Calls can still use $12.50" in page()

    use(globex, NOW - timedelta(hours=1), input_tokens=6_000_000)
    text = page()
    assert "Left -$5.00 Agreed overdraft $2.50 Calls can still use $0.00" in text
    assert "Calls are refused now. Credit and overdraft are used up." in text


@pytest.mark.parametrize(
    ("parts", "shown"),
    [
        (("10.005", "3.333", "0", "0.004"), [1001, -333, -1, 667]),
        (("0.004", "0.004", "0", "0"), [0, 0, 0, 0]),
        (("5", "7.5", "0", "0"), [500, -750, 0, -250]),
        (("5", "1", "2", "0"), [500, -100, -200, 0, 200]),
    ],
)
def test_cents_of_the_sum_add_up(parts, shown):
    booked, unbilled, set_aside, held = map(Decimal, parts)
    balance = EffectiveBalance(
        currency="USD",
        is_prepaid=True,
        booked=booked,
        unbilled=unbilled,
        set_aside=set_aside,
        held=held,
        overdraft=Decimal(0),
    )
    rows = [row.minor for row in prepaid_sum(balance)]
    assert sum(rows[:-1]) == rows[-1]
    assert [abs(row - wanted) <= 1 for row, wanted in zip(rows, shown, strict=True)] == [True] * len(shown)


def test_viewers_read_and_others_find_nothing(client_for, vera, gus, globex, acme):
    given_credit(acme, "10", "Ours")
    assert b"Ours" in client_for(vera).get("/o/acme/credits/").content
    assert client_for(gus).get("/o/acme/credits/").status_code == 404
