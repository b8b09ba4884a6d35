"""What every request passes through."""

import pytest


@pytest.mark.parametrize("address", ["/v1/usage?organisation=%00", "/v1/invoices/%00", "/v1/bill?%00=1"])
def test_the_api_refuses_nul_in_an_address(api, acme_access_token, address):
    response = api(acme_access_token.secret).get(address)
    assert (response.status_code, response.json()["code"]) == (400, "bad_request")
    assert response["Content-Type"] == "application/problem+json"


@pytest.mark.parametrize("address", ["/o/%00/", "/o/acme/usage/?model=a%00", "/accounts/login/?next=%00"])
def test_pages_refuse_nul_in_an_address(client_for, acme, olivia, address):
    assert client_for(olivia).get(address).status_code == 400


def test_a_percent_sign_before_two_zeros_is_let_through(client_for, acme, olivia):
    assert client_for(olivia).get("/o/acme/usage/?model=%2500").status_code == 200
