"""Bodies of the REST API: what nobody would read is refused rather than passed over."""

import pytest

from accounts.models import ApiKey
from billing.models import CreditGrant
from metering.models import RejectedEvent
from tests import factories

pytestmark = pytest.mark.django_db


def unknown(answer):
    assert answer.status_code == 400, answer.content
    return {one["field"] for one in answer.json()["errors"] if one["code"] == "unknown_field"}


@pytest.fixture
def operators(api, service_token):
    return api(service_token.secret)


def test_a_misspelt_member_is_named_and_nothing_is_done(operators, globex):
    body = {"kind": "manual", "amount": "5", "currency": "USD", "reason": "Sorry", "expire_at": "2026-12-01T00:00:00Z"}
    answer = operators.post("/v1/credits?organisation=globex", body)
    assert unknown(answer) == {"expire_at"}
    assert "expires_at" in answer.json()["errors"][0]["detail"]
    assert not CreditGrant.objects.exists()


def test_it_is_told_beside_what_else_is_wrong(operators, globex):
    answer = operators.post("/v1/credits?organisation=globex", {"amout": "5"})
    fields = {one["field"] for one in answer.json()["errors"]}
    assert {"amout", "amount", "kind"} <= fields


def test_members_of_members_are_looked_at_too(operators, acme):
    event = {"specversion": "1.0", "type": "ai.usage", "source": "gateway", "id": "x-1", "subject": acme.public_id}
    operators.post("/v1/events", event | {"data": {"input_tokens": "many"}})
    body = {"filter": {"reasn": "invalid_value"}, "reason": "Test traffic"}
    answer = operators.post("/v1/rejected-events/dismissal", body)
    assert unknown(answer) == {"filter.reasn"}
    assert RejectedEvent.objects.get().state == RejectedEvent.State.OPEN
    body = {"filter": {}, "repairs": [{"field": "data.model", "to": "m", "form": "n"}]}
    answer = operators.post("/v1/rejected-events/replay", body)
    assert unknown(answer) == {"repairs.0.form"}


def test_the_organisation_may_be_named_in_any_body(operators, globex):
    body = {"name": "laptop", "organisation": "globex"}
    answer = operators.post("/v1/api-keys", body)
    assert answer.status_code == 201
    assert ApiKey.objects.filter(organisation=globex, name="laptop").exists()


@pytest.mark.parametrize("body", ["[]", "null", "5", '"x"', ""])
def test_what_is_no_object_is_refused_as_ever(api, acme, body):
    own = api(factories.access_token(acme).secret)
    assert own.post("/v1/api-keys", body, content_type="application/json").status_code == 400


@pytest.mark.parametrize("text", ["a\\u0000b", "\\ud800", "\\udc00\\ud800"])
def test_what_cannot_be_kept_is_refused_wherever_it_stands(api, acme, service_token, text):
    own, operators = api(factories.access_token(acme).secret), api(service_token.secret)
    for client, address, body in (
        (own, "/v1/api-keys", '{"name": "x", "metadata": {"a": "%s"}}'),
        (own, "/v1/api-keys", '{"name": "x", "metadata": {"%s": "a"}}'),
        (operators, "/v1/meters", '{"key": "k", "tiers": {"t": {"steps": [{"label": "%s"}]}}}'),
        (operators, "/v1/credits", '{"organisation": "%s"}'),
        (operators, "/v1/rejected-events/replay", '{"filter": {}, "repairs": [{"field": "data.a", "to": "%s"}]}'),
    ):
        answer = client.post(address, body % text, content_type="application/json")
        assert (answer.status_code, answer.json()["code"]) == (400, "unstorable_text")


def test_whole_characters_in_escapes_are_text(api, acme):
    own = api(factories.access_token(acme).secret)
    answer = own.post("/v1/api-keys", '{"name": "\\ud83d\\ude42 \\u00e4"}', content_type="application/json")
    assert answer.json()["name"] == "🙂 ä"


@pytest.mark.parametrize("body", ["[" * 100_000, '{"a":' * 50_000, '{"amount": NaN}', "\xff"])
def test_what_is_no_json_of_sensible_depth_is_malformed(operators, globex, body):
    for address in ("/v1/credits?organisation=globex", "/v1/rejected-events/replay"):
        answer = operators.post(address, body.encode("latin-1"), content_type="application/json")
        assert (answer.status_code, answer.json()["code"]) == (400, "malformed_json")
