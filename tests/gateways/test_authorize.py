"""/v1/authorize: what nginx and Envoy ask, and what a caller cannot talk it into."""

import gzip
import json
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from django.test import Client, override_settings

from accounts.api_keys import create_api_key, revoke_api_key
from accounts.models import Organisation, Scope
from metering.models import Hold
from metering.quotas import QuotaSpec, define_quota
from tests import factories

pytestmark = pytest.mark.django_db


def ask(token: str, path: str = "/v1/authorize", method: str = "get", **headers: str) -> Any:
    sent = {"X-Kilotoken-Token": token} | {name.replace("_", "-"): value for name, value in headers.items()}
    return getattr(Client(), method)(path, headers=sent)


@pytest.fixture
def bearer(acme_key) -> str:
    return f"Bearer {acme_key.secret}"


def limit(organisation: Organisation, amount: int = 1) -> None:
    """So many requests a day."""
    spec = QuotaSpec(measure="requests", window="day", amount=Decimal(amount))
    define_quota(organisation, spec, set_by="operator", now=datetime.now(UTC))


def restricted_key(organisation: Organisation, **restrictions: Any) -> str:
    """An Authorization header whose key may not do everything."""
    project = factories.default_project(organisation)
    _, credential = create_api_key(organisation, project=project, name="Restricted", actor="test", **restrictions)
    return f"Bearer {credential.secret}"


def test_a_call_that_may_pass_is_held_and_named(service_token, acme_key, acme, bearer):
    answer = ask(service_token.secret, Authorization=bearer)
    assert answer.status_code == 200
    hold = Hold.objects.get(id=answer.headers["x-kilotoken-admission"])
    assert hold.organisation_id == acme.pk
    assert answer.headers["x-kilotoken-organisation"] == acme.public_id
    assert answer.headers["x-kilotoken-key"] == acme_key.api_key.public_id
    assert answer.headers["x-kilotoken-project"].startswith("proj_")


@pytest.mark.parametrize("name", ["X_Api_Key", "Api_Key"])
def test_the_key_may_stand_where_other_clients_put_it(service_token, acme_key, name):
    assert ask(service_token.secret, **{name: acme_key.secret}).status_code == 200


def test_the_token_may_stand_in_authorization_with_the_callers_beside_it(service_token, bearer):
    headers = {"Authorization": f"Bearer {service_token.secret}", "X-Original-Authorization": bearer}
    assert Client().get("/v1/authorize", headers=headers).status_code == 200


def test_a_missing_or_unknown_key_is_refused(service_token):
    for headers in ({}, {"Authorization": "Bearer sk-kt-nobody"}, {"Authorization": "Basic abc"}):
        answer = ask(service_token.secret, **headers)
        assert answer.status_code == 401
        assert answer.headers["x-kilotoken-reason"] == "key_unknown"
        assert answer.json()["error"]["code"] == "key_unknown"


def test_a_revoked_key_is_refused_on_the_next_call(service_token, acme_key, bearer):
    assert ask(service_token.secret, Authorization=bearer).status_code == 200
    revoke_api_key(acme_key.api_key, actor="test")
    assert ask(service_token.secret, Authorization=bearer).headers["x-kilotoken-reason"] == "key_revoked"


def test_a_limit_is_refused_with_its_headers(service_token, acme, bearer):
    limit(acme)
    assert ask(service_token.secret, Authorization=bearer).headers["x-ratelimit-remaining-requests"] == "0"
    refused = ask(service_token.secret, Authorization=bearer)
    assert refused.status_code == 429
    assert int(refused.headers["retry-after"]) > 0
    assert refused.headers["x-ratelimit-limit-requests"] == "1"
    assert refused.json()["reason"]["code"] == "quota_exceeded"


def test_nginx_gets_a_status_that_it_understands_and_the_real_one_beside_it(service_token, acme, bearer):
    limit(acme, amount=0)
    refused = ask(service_token.secret, Authorization=bearer, X_Kilotoken_Gateway="nginx")
    assert refused.status_code == 403
    assert refused.headers["x-kilotoken-status"] == "429"
    assert '"code":"quota_exceeded"' in refused.headers["x-kilotoken-error"]


def test_asking_whose_key_it_is_holds_nothing(service_token, acme, bearer):
    limit(acme, amount=0)
    answer = ask(service_token.secret, Authorization=bearer, X_Kilotoken_Hold="none")
    assert answer.status_code == 200
    assert answer.headers["x-kilotoken-organisation"] == acme.public_id
    assert not Hold.objects.exists()


def test_the_same_call_is_held_once(service_token, bearer):
    first, again = [ask(service_token.secret, Authorization=bearer, X_Kilotoken_Call_Id="call 1") for _ in range(2)]
    assert first.headers["x-kilotoken-admission"] == again.headers["x-kilotoken-admission"]


def test_the_model_is_said_by_the_gateway_in_a_header_or_in_its_own_query(service_token, acme):
    bearer = restricted_key(acme, allowed_models=["small-*"])
    assert ask(service_token.secret, Authorization=bearer, X_Kilotoken_Model="small-1").status_code == 200
    assert ask(service_token.secret, "/v1/authorize?model=small-1", Authorization=bearer).status_code == 200
    for path in ("/v1/authorize?model=large", "/v1/authorize"):
        assert (
            ask(service_token.secret, path, Authorization=bearer).headers["x-kilotoken-reason"] == "model_not_allowed"
        )


def test_below_the_address_the_query_is_the_callers_and_says_nothing(service_token, acme):
    bearer = restricted_key(acme, allowed_models=["small-*"])
    path = "/v1/authorize/v1/chat/completions?model=small-1&call_id=1"
    assert ask(service_token.secret, path, "post", Authorization=bearer).status_code == 403


def test_a_digest_is_no_key_where_headers_may_be_the_callers_own(service_token, acme_key):
    headers = {"X-Kilotoken-Key-Sha256": acme_key.digest}
    assert ask(service_token.secret, **headers).status_code == 401
    gateways_own = headers | {"Authorization": f"Bearer {service_token.secret}"}
    assert Client().get("/v1/authorize", headers=gateways_own).status_code == 200


def test_a_key_bound_to_networks_is_held_to_the_address_that_the_gateway_names(service_token, acme):
    bearer = restricted_key(acme, allowed_networks=["192.0.2.0/24"])
    for headers, status in (
        ({"X-Kilotoken-Client-Ip": "192.0.2.7"}, 200),
        ({"X-Kilotoken-Client-Ip": "203.0.113.9"}, 403),
        ({"X-Forwarded-For": "192.0.2.7"}, 403),
        ({}, 403),
    ):
        assert ask(service_token.secret, Authorization=bearer, **headers).status_code == status, headers


def test_without_the_gateways_own_token_nothing_is_said(db, acme_key, bearer):
    assert ask("kt-service-wrong", Authorization=bearer).status_code == 401
    assert Client().get("/v1/authorize", headers={"Authorization": bearer}).json()["code"] == "unknown_token"
    powerless = factories.service_token(scopes=[Scope.EVENTS_WRITE])
    assert ask(powerless.secret, Authorization=bearer).json()["code"] == "missing_scope"
    assert not Hold.objects.exists()


@pytest.mark.parametrize("headers", [{"X_Kilotoken_Max_Tokens": "-1"}, {"X_Kilotoken_Model": "m" * 201}])
def test_nonsense_is_said_to_be_nonsense(service_token, bearer, headers):
    assert ask(service_token.secret, Authorization=bearer, **headers).json()["code"] == "invalid_request"


@pytest.mark.parametrize("method", ["get", "post", "put", "patch", "delete", "head"])
def test_envoy_asks_by_the_callers_method(service_token, bearer, method):
    path = "/v1/authorize/v1/files/file-1"
    assert ask(service_token.secret, path, method, Authorization=bearer).status_code == 200


def test_exactly_what_envoy_sends_is_understood(service_token, acme, acme_key):
    """As recorded of Envoy 1.39 with the configuration that ships."""
    headers = {
        "Host": "gateway.example.com",
        "Authorization": f"Bearer {acme_key.secret}",
        "Content-Length": "0",
        "X-Kilotoken-Client-Ip": "192.0.2.7",
        "X-Kilotoken-Token": service_token.secret,
        "X-Envoy-Internal": "true",
        "X-Envoy-Expected-Rq-Timeout-Ms": "2000",
    }
    with override_settings(ALLOWED_HOSTS=["gateway.example.com"]):
        answer = Client().post("/v1/authorize/v1/chat/completions?model=x", headers=headers)
    assert answer.status_code == 200
    assert answer.headers["x-kilotoken-organisation"] == acme.public_id


# --- The body, where a gateway hands it on ----------------------------------------------------------------------------


def post(token: str, bearer: str, body: Any, **headers: str) -> Any:
    sent = {"X-Kilotoken-Token": token, "Authorization": bearer}
    sent |= {name.replace("_", "-"): value for name, value in headers.items()}
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Client().post("/v1/authorize/v1/chat/completions", raw, content_type="application/json", headers=sent)


def test_the_body_says_the_model_and_what_the_call_may_need(service_token, acme):
    bearer = restricted_key(acme, allowed_models=["small-*"])
    body = {"model": "small-1", "max_tokens": 40, "user": "ada", "messages": [{"role": "user", "content": "x" * 400}]}
    answer = post(service_token.secret, bearer, body)
    assert answer.status_code == 200
    assert answer.headers["x-kilotoken-model"] == "small-1"
    hold = Hold.objects.get()
    assert (hold.model, hold.end_user) == ("small-1", "ada")
    assert hold.estimate | {"requests": "1"} == {"input_tokens": "105", "output_tokens": "40", "requests": "1"}
    assert post(service_token.secret, bearer, body | {"model": "large"}).status_code == 403


def test_what_the_gateway_says_goes_before_the_body(service_token, bearer):
    body = {"model": "m-1", "max_tokens": 9}
    answer = post(service_token.secret, bearer, body, X_Kilotoken_Model="m-2", X_Kilotoken_Max_Tokens="5")
    assert answer.headers["x-kilotoken-model"] == "m-2"
    assert Hold.objects.get().estimate["output_tokens"] == "5"


def test_a_compressed_body_is_read_too(service_token, bearer):
    raw = gzip.compress(json.dumps({"model": "m-1"}).encode())
    assert post(service_token.secret, bearer, raw, Content_Encoding="gzip").headers["x-kilotoken-model"] == "m-1"


def test_a_body_that_cannot_be_read_holds_nothing(service_token, bearer):
    assert post(service_token.secret, bearer, b'{"model": ').status_code == 400
    assert not Hold.objects.exists()


def test_the_model_is_said_even_where_it_is_unknown_or_hard_to_spell(service_token, bearer):
    assert post(service_token.secret, bearer, {}).headers["x-kilotoken-model"] == ""
    assert post(service_token.secret, bearer, {"model": "大 model"}).headers["x-kilotoken-model"] == "%E5%A4%A7%20model"
