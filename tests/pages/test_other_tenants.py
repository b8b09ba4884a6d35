"""To a member of another organisation nothing of acme's exists, at whatever address there is or will be.

Each test goes through all addresses in one world and names those that answered wrongly.
"""

import pytest

from accounts.tokens import revoke_token
from tests import factories
from tests.pages.addresses import all_routes, routes_of_an_organisation, routes_of_the_api

ROUTES = routes_of_an_organisation()
WITH_THINGS = [route for route in ROUTES if len(route.parts) > 1]
# Only service tokens change subscriptions and credit; a coupon is no customer's. Tried with those endpoints.
OPERATORS = {
    route.name for route in routes_of_the_api() if route.parts & {"subscription_id", "coupon_id", "redemption_id"}
} | {"v1_coupons", "v1_credit_reversal", "v1_margins"}
API_THINGS = [
    route
    for route in routes_of_the_api()
    if route.parts & {"public_id", "number", "name"} and route.name not in OPERATORS
]
# Lists and figures of the caller's organisation; another may not even be named.
API_LISTS = [
    route
    for route in routes_of_the_api()
    if route.name
    in {
        "api-keys",
        "usage-figures",
        "v1_bill",
        "v1_budget_suggestion",
        "v1_credits",
        "v1_forecast",
        "v1_invoices",
        "v1_tariff_comparison",
        "seals",
        "quotas",
    }
    | {"rejected-events", "rejected-event-counts", "unmatched-events", "v1_subscriptions"}
]
INTAKE = {"events", "litellm", "otlp-traces", "openmeter-events"} | {
    f"{name}-{act}" for name in ("rejected-event", "rejected-events") for act in ("replay", "dismissal")
}
# Asked about one event, named in the query.
ABOUT_EVENTS = [route for route in routes_of_the_api() if route.name in {"proofs", "v1_event_lines"}]
# Gateways speak for every organisation; no access token has their scope.
GATEWAYS = {
    *("admissions", "admission", "admission-settlement", "admission-release", "admission-extension"),
    *("authorize", "authorize-path"),
}
# Meters belong to nobody: everybody reads the same, and only service tokens change them.
METERS = {"meters", "meter", "meter-preview", "meter-archival", "meter-backfills"}
# A filter by subject and a list of ids, each tried by itself; the same for everybody.
OTHERS = {"quota", "quota-increases", "openmeter-meter-query", "openapi", "api-keys-revocation", "leaked-keys"}


def address_of(name: str, world) -> str:
    return next(route for route in all_routes() if route.name == name).address(world)


@pytest.fixture
def gus_token(globex) -> str:
    return factories.access_token(globex).secret


def test_every_endpoint_of_the_api_is_swept():
    swept = (
        {route.name for route in [*API_THINGS, *API_LISTS, *ABOUT_EVENTS]}
        | INTAKE
        | OTHERS
        | OPERATORS
        | GATEWAYS
        | METERS
    )
    assert {route.name for route in routes_of_the_api()} == swept


def test_every_address_is_one_of_acmes(world, client_for, olivia):
    """Otherwise the sweeps would prove nothing: her own member gets something there."""
    client = client_for(olivia)
    answers = {route.name: client.get(route.address(world)).status_code for route in ROUTES}
    assert {name: status for name, status in answers.items() if status not in {200, 302, 405}} == {}


@pytest.mark.parametrize("method", ["get", "head", "post", "put", "delete"])
def test_nothing_exists_for_the_owner_of_another_organisation(method, world, client_for, gus, globex):
    client = client_for(gus)
    for route in ROUTES:
        address = route.address(world)
        for headers in ({}, {"HX-Request": "true"}):
            response = getattr(client, method)(address, headers=headers)
            assert response.status_code == 404, f"{route.name} answers {response.status_code}"
            assert b"Acme" not in response.content, route.name


def test_acmes_things_do_not_exist_under_ones_own_address(world, client_for, gus, globex):
    client = client_for(gus)
    for route in WITH_THINGS:
        address = route.address(world).replace("/o/acme/", "/o/globex/")
        answers = {
            client.get(address).status_code,
            client.post(address, {"name": "Mine", "role": "viewer"}).status_code,
        }
        assert 404 in answers, route.name
        assert answers <= {404, 405}, route.name


@pytest.mark.parametrize("method", ["get", "post"])
def test_anonymous_visitors_are_asked_to_sign_in(method, world, client):
    for route in ROUTES:
        response = getattr(client, method)(route.address(world))
        assert response.status_code == 302, f"{route.name} answers {response.status_code}"
        assert response["Location"].startswith("/accounts/login/"), route.name


def test_things_of_acme_do_not_exist_for_the_token_of_another(world, api, gus_token, acme_access_token):
    """Tried with the method that acme's own token may use there."""
    for route in API_THINGS:
        address = route.address(world)
        method = "post" if api(acme_access_token.secret).get(address).status_code == 405 else "get"
        for query in ("", "?organisation=acme"):
            assert getattr(api(gus_token), method)(address + query).status_code == 404, route.name
        assert getattr(api(acme_access_token.secret), method)(address).status_code in {200, 201}, route.name


def test_lists_of_another_organisation_cannot_be_asked_for(world, acme, api, gus_token):
    for route in [*API_LISTS, *ABOUT_EVENTS]:
        address = route.address(world)
        for name in ("acme", acme.public_id):
            assert api(gus_token).get(f"{address}?organisation={name}").status_code == 404, route.name
        assert acme.public_id.encode() not in api(gus_token).get(address).content, route.name


def test_usage_of_another_organisations_keys_cannot_be_asked_for(world, api, gus_token, acme_access_token):
    key = world.filled["api-key"]["public_id"]
    for address in (
        f"/v1/usage?api_key={key}&from=2026-11-01&to=2026-11-22",
        address_of("openmeter-meter-query", world),
    ):
        assert b"18059974" in api(acme_access_token.secret).get(address).content
        assert b"18059974" not in api(gus_token).get(address).content


def test_no_access_token_can_report_usage(world, api, acme_access_token, gus_token):
    for name in INTAKE:
        for secret in (acme_access_token.secret, gus_token):
            assert api(secret).post(address_of(name, world), {}).status_code == 403, name


def test_revoked_and_unknown_tokens_are_refused_at_once(world, api, acme_access_token):
    client = api(acme_access_token.secret)
    addresses = [route.address(world) for route in [*API_THINGS, *API_LISTS]]
    assert {client.get(address).status_code for address in addresses} <= {200, 405}
    revoke_token(acme_access_token.token, actor="test")
    for address in addresses:
        for secret in (acme_access_token.secret, "kt-access-unheard-of", ""):
            assert (api(secret).get(address).status_code, api(secret).post(address).status_code) == (401, 401)
