"""/v1/admissions over HTTP: shapes, statuses, headers, and who may ask."""

from datetime import UTC, datetime
from decimal import Decimal

import pytest
import time_machine

from accounts.tokens import revoke_token
from metering.models import Hold
from metering.quotas import QuotaSpec, define_quota

NOW = datetime(2026, 11, 15, 12, 0, 30, tzinfo=UTC)
ADDRESS = "/v1/admissions"


@pytest.fixture(autouse=True)
def _at_a_fixed_time():
    with time_machine.travel(NOW, tick=False):
        yield


@pytest.fixture
def gateway(api, service_token):
    return api(service_token.secret)


@pytest.fixture
def call(acme_key):
    return {"call_id": "call-1", "api_key": acme_key.secret, "model": "m-1", "estimate": {"output_tokens": 75}}


def limit(organisation, amount, measure="meter", window="minute"):
    spec = QuotaSpec(
        measure=measure,
        meter_key="output_tokens" if measure == "meter" else "",
        amount=Decimal(amount),
        window=window,
    )
    return define_quota(organisation, spec, set_by="operator", now=NOW, actor="test")


def test_a_call_is_allowed_held_and_settled(acme, gateway, call, acme_key):
    limit(acme, 100)

    answer = gateway.post(ADDRESS, call).json()

    assert (answer["decision"], answer["organisation"], answer["api_key"]) == (
        "allow",
        acme.public_id,
        acme_key.api_key.public_id,
    )
    assert answer["limits"][0] | {"quota": ""} == {
        "quota": "",
        "measure": "meter",
        "meter": "output_tokens",
        "currency": "",
        "scope": "organisation",
        "window": "minute",
        "models": [],
        "enforcement": "hard",
        "amount": "100",
        "used": "0",
        "held": "75",
        "remaining": "25",
        "overdraft": "0",
        "resets_at": "2026-11-15T12:01:00Z",
    }
    assert answer["when_unreachable"]["mode"] == "open"
    settled = gateway.post(f"{ADDRESS}/{answer['id']}/settlement", {"usage": {"output_tokens": "60"}}).json()
    assert (settled["state"], settled["usage"]) == ("settled", {"output_tokens": "60"})
    assert gateway.get(f"{ADDRESS}/{answer['id']}").json() == settled
    assert gateway.get(f"{ADDRESS}/call:call-1?organisation=acme").json() == settled


def test_a_refusal_comes_with_status_sentence_and_headers_for_the_caller(acme, gateway, call):
    limit(acme, 10)
    limit(acme, 3, measure="requests")

    response = gateway.post(ADDRESS, call)

    reason = response.json()["reason"]
    assert response.status_code == 200
    assert (response.json()["decision"], response.json()["id"]) == ("deny", None)
    assert (reason["code"], reason["status"], reason["retry_after_seconds"]) == ("quota_exceeded", 429, 30)
    assert response["retry-after"] == "30"
    assert response["x-ratelimit-limit-tokens"] == "10"
    assert response["x-ratelimit-remaining-requests"] == "3"
    assert response["x-ratelimit-reset-requests"] == "30s"


def test_the_digest_serves_in_place_of_the_key(gateway, call, acme_key):
    by_digest = {**call, "api_key_sha256": acme_key.digest}
    del by_digest["api_key"]

    assert gateway.post(ADDRESS, by_digest).json()["decision"] == "allow"


def test_many_at_once(acme, gateway, call):
    limit(acme, 100)
    calls = [{**call, "call_id": f"call-{number}"} for number in range(3)]

    answers = gateway.post(ADDRESS, {"admissions": calls}).json()["admissions"]

    assert [answer["decision"] for answer in answers] == ["allow", "deny", "deny"]


def test_usage_of_misspelt_meters_alone_settles_nothing(acme, gateway, call):
    made = gateway.post("/v1/admissions", call).json()
    address = f"/v1/admissions/{made['id']}/settlement"
    answer = gateway.post(address, {"usage": {"output_token": 5}})
    assert (answer.status_code, answer.json()["code"]) == (400, "unknown_meter")
    assert Hold.objects.get().state == "held"
    settled = gateway.post(address, {"usage": {"output_tokens": 5, "output_token": 5}}).json()
    assert (settled["state"], settled["usage"]["output_tokens"]) == ("settled", "5")


def test_release_and_extension(acme, gateway, call):
    limit(acme, 100)
    first = gateway.post(ADDRESS, call).json()["id"]

    extended = gateway.post(f"{ADDRESS}/{first}/extension", {"estimate": {"output_tokens": 20}, "ttl_seconds": 900})
    assert extended.json()["expires_at"] == "2026-11-15T12:15:30Z"
    refused = gateway.post(f"{ADDRESS}/{first}/extension", {"estimate": {"output_tokens": 6}})
    assert (refused.status_code, refused.json()["code"]) == (402, "limit_reached")
    assert gateway.post(f"{ADDRESS}/{first}/release").json()["state"] == "released"
    ended = gateway.post(f"{ADDRESS}/{first}/extension", {"estimate": {"output_tokens": 6}})
    assert (ended.status_code, ended.json()["code"]) == (409, "admission_ended")


@pytest.mark.parametrize(
    "change",
    [
        {"call_id": ""},
        {"call_id": "x" * 256},
        {"call_id": "a\x00b"},
        {"api_key": ""},
        {"api_key_sha256": "0" * 64},
        {"estimate": {"output_tokens": -1}},
        {"estimate": {"output_tokens": "NaN"}},
        {"estimate": {"output_tokens": "1e400"}},
        {"prompt_tokens": -5},
        {"ttl_seconds": 5},
        {"surprise": 1},
        {"call_id": 7},
    ],
)
def test_what_cannot_be_read_is_refused_with_a_sentence(gateway, call, change):
    answer = gateway.post(ADDRESS, {**call, **change})

    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_request")
    assert not Hold.objects.exists()


def test_bodies_that_are_no_json(gateway):
    answer = gateway.post(ADDRESS, b"{", content_type="application/json")

    assert (answer.status_code, answer.json()["code"]) == (400, "malformed_json")


def test_unknown_admissions_are_not_found(gateway, acme):
    for name in ("adm_nothing", "call:nothing", "call:nothing?organisation=acme"):
        assert gateway.get(f"{ADDRESS}/{name}").json()["code"] == "unknown_admission"


def test_no_access_token_may_ask(api, acme, acme_access_token, call):
    client = api(acme_access_token.secret)

    assert client.post(ADDRESS, call).json()["code"] == "missing_scope"
    assert client.get(f"{ADDRESS}/adm_x").status_code == 403
    for act in ("settlement", "release", "extension"):
        assert client.post(f"{ADDRESS}/adm_x/{act}", {}).status_code == 403


def test_answers_never_repeat_the_key(gateway, call, acme_key):
    assert acme_key.secret not in gateway.post(ADDRESS, call).content.decode()
    assert acme_key.secret not in gateway.post(ADDRESS, {**call, "estimate": 5}).content.decode()


def test_a_token_that_was_revoked_asks_no_more_though_it_is_remembered(acme, gateway, call, service_token):
    assert gateway.post("/v1/admissions", call).status_code == 200

    revoke_token(service_token.token, actor="test")

    for body in (call | {"call_id": "c-2"}, call | {"api_key": "sk-kt-nobody"}, {"admissions": [call]}):
        answer = gateway.post("/v1/admissions", body)
        assert answer.status_code == 401
        assert answer.json()["code"] == "token_revoked"
    assert Hold.objects.count() == 1
