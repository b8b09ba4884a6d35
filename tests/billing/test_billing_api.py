"""GET /v1/bill and /v1/invoices."""

from decimal import Decimal

import pytest
import time_machine

from accounts.models import Scope
from billing.invoicing import close_period
from tests import factories
from tests.billing.billing_builders import at, payg, price, subscribed, use

NOW = at(2026, 11, 22, 18)


@pytest.fixture
def invoices(acme):
    """Two invoices of acme, and usage in the running period."""
    price("input_tokens", "0.15")
    subscription = subscribed(acme, payg(), anchor=at(2026, 9, 10))
    use(acme, at(2026, 9, 12), "gpt-oss-120b", input_tokens=18_059_974)
    use(acme, at(2026, 11, 12), "gpt-oss-120b", input_tokens=245_896)
    return [close_period(subscription, now=at(2026, month, 11)) for month in (10, 11)]


@pytest.fixture
def acme_api(api, acme_access_token):
    return api(acme_access_token.secret)


@time_machine.travel(NOW, tick=False)
def test_bill_gives_decimals_as_text(acme_api, invoices):
    bill = acme_api.get("/v1/bill").json()

    assert (bill["plan"], bill["currency"], bill["total_exact"]) == ("Payg", "USD", "0.0368844")
    assert bill["period_start"] == "2026-11-10T01:00:00Z"  # two o'clock in Berlin, winter and summer
    (line,) = bill["lines"]
    assert (line["quantity"], line["unit_price"], line["scale"]) == ("245896", "0.15", "1000000")
    assert [reading["quantity"] for reading in bill["not_charged"]] == ["1"]


def test_bill_without_a_plan_is_404_with_a_code(acme_api, acme):
    response = acme_api.get("/v1/bill")

    assert response.status_code == 404
    assert response.json()["code"] == "no_subscription"


def test_invoices_come_newest_first_by_cursor(acme_api, invoices):
    first = acme_api.get("/v1/invoices?limit=1").json()
    second = acme_api.get(f"/v1/invoices?limit=1&cursor={first['next_cursor']}").json()

    assert [first["items"][0]["number"], second["items"][0]["number"]] == ["KT-2026-00002", "KT-2026-00001"]
    assert second["next_cursor"] is None


def test_invoice_has_lines_and_evidence_that_add_up(acme_api, invoices):
    invoice = acme_api.get("/v1/invoices/KT-2026-00001").json()

    assert (invoice["total_exact"], invoice["total_minor"]) == ("2.7089961", 271)
    assert sum(Decimal(line["amount_exact"]) for line in invoice["lines"]) == Decimal(invoice["total_exact"])
    assert invoice["evidence"]["digest"]


@pytest.mark.parametrize("path", ["/v1/bill", "/v1/invoices", "/v1/invoices/KT-2026-00001"])
def test_token_without_the_scope_is_refused(api, acme, invoices, path):
    token = factories.access_token(acme, scopes=[Scope.USAGE_READ])

    assert api(token.secret).get(path).status_code == 403


def test_invoice_of_another_organisation_does_not_exist(api, globex, invoices):
    stranger = api(factories.access_token(globex).secret)

    assert stranger.get("/v1/invoices/KT-2026-00001").status_code == 404
    assert stranger.get("/v1/invoices?organisation=acme").status_code == 404
    assert stranger.get("/v1/invoices").json()["items"] == []


def test_service_token_names_the_organisation(api, service_token, invoices):
    operator = api(service_token.secret)

    assert operator.get("/v1/invoices").status_code == 400
    assert len(operator.get("/v1/invoices?organisation=acme").json()["items"]) == 2
