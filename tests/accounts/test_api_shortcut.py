import pytest

pytestmark = pytest.mark.django_db


def test_the_api_sets_no_session_and_says_how_long_its_answers_are(api, service_token):
    response = api(service_token.secret).get("/v1/openapi.json")
    assert response.status_code == 200
    assert response.headers["Content-Length"] == str(len(response.content))
    assert not response.cookies
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    assert response.headers["Content-Security-Policy"] == "default-src 'none'; frame-ancestors 'none'"


def test_the_api_refuses_hosts_that_are_not_ours(api, service_token):
    response = api(service_token.secret).get("/v1/usage", headers={"host": "elsewhere.example"})
    assert (response.status_code, response.json()["code"]) == (400, "bad_request")


def test_an_unknown_address_of_the_api_is_a_problem(client):
    response = client.get("/v1/nothing")
    assert response.status_code == 404
    assert response.headers["Content-Type"] == "application/problem+json"


def test_pages_keep_their_middleware(client):
    response = client.get("/accounts/login/")
    assert response.headers["X-Frame-Options"] == "DENY"
    assert "csrftoken" in response.cookies
