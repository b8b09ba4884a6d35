"""The REST API of keys: what it shows, what it refuses, and that sending again changes nothing."""

from datetime import timedelta

import pytest
from django.utils import timezone

from accounts.credentials import digest_of
from accounts.models import ApiKey, ApiKeySecret, AuditEntry, Scope
from accounts.organisations import suspend
from accounts.tokens import revoke_token
from tests import factories


@pytest.fixture
def acme_api(api, acme_access_token):
    return api(acme_access_token.secret)


def test_created_key_is_answered_with_its_secret_once(acme_api, acme):
    response = acme_api.post("/v1/api-keys", {"name": "Production"})

    assert response.status_code == 201
    assert response["Cache-Control"] == "no-store"
    made = response.json()
    assert made["secret"].startswith("sk-kt-")
    assert made["project"]["name"] == "Default"
    secret = ApiKeySecret.objects.get(api_key__public_id=made["id"])
    assert secret.digest == digest_of(made["secret"])
    shown = acme_api.get(f"/v1/api-keys/{made['id']}").json()
    assert made["secret"] not in str(shown)
    assert shown["last_four"] == made["secret"][-4:]


def test_key_created_again_under_the_same_idempotency_key_is_the_same_key_without_secret(acme_api, acme):
    first = acme_api.post("/v1/api-keys", {"name": "Production"}, headers={"Idempotency-Key": "a"})
    again = acme_api.post("/v1/api-keys", {"name": "Production"}, headers={"Idempotency-Key": "a"})

    assert (first.status_code, again.status_code) == (201, 200)
    assert again.json()["id"] == first.json()["id"]
    assert again.json()["secret"] is None
    assert "not kept" in again.json()["notice"]
    assert ApiKey.objects.count() == 1


def test_idempotency_key_with_other_content_is_refused(acme_api):
    acme_api.post("/v1/api-keys", {"name": "Production"}, headers={"Idempotency-Key": "a"})
    other = acme_api.post("/v1/api-keys", {"name": "Staging"}, headers={"Idempotency-Key": "a"})

    assert other.status_code == 422
    assert other.json()["code"] == "idempotency_key_reused"
    assert ApiKey.objects.count() == 1


def test_refused_request_leaves_its_idempotency_key_free(acme_api, acme):
    headers = {"Idempotency-Key": "a"}
    suspend(acme, actor="test")
    assert acme_api.post("/v1/api-keys", {"name": "P"}, headers=headers).json()["code"] == "organisation_suspended"
    acme.refresh_from_db()
    type(acme).objects.update(suspended_at=None)
    assert acme_api.post("/v1/api-keys", {"name": "P"}, headers=headers).status_code == 201


def test_idempotency_keys_of_two_organisations_do_not_meet(api, acme_access_token, globex):
    headers = {"Idempotency-Key": "a"}
    theirs = api(factories.access_token(globex).secret).post("/v1/api-keys", {"name": "P"}, headers=headers)
    ours = api(acme_access_token.secret).post("/v1/api-keys", {"name": "P"}, headers=headers)

    assert (theirs.status_code, ours.status_code) == (201, 201)
    assert theirs.json()["id"] != ours.json()["id"]


def test_keys_are_listed_newest_first_in_pages(acme_api, acme):
    names = [factories.api_key(acme, f"Key {number}").api_key.name for number in range(5)]

    first = acme_api.get("/v1/api-keys?limit=2").json()
    second = acme_api.get(f"/v1/api-keys?limit=2&cursor={first['next_cursor']}").json()
    factories.api_key(acme, "Made meanwhile")
    third = acme_api.get(f"/v1/api-keys?limit=2&cursor={second['next_cursor']}").json()

    shown = [key["name"] for page in (first, second, third) for key in page["items"]]
    assert shown == names[::-1]
    assert third["next_cursor"] is None


@pytest.mark.parametrize("query", ["limit=0", "limit=201", "limit=x", "limit=²", "cursor=key_nothing"])
def test_odd_page_is_refused(acme_api, query):
    assert acme_api.get(f"/v1/api-keys?{query}").status_code == 400


@pytest.mark.parametrize("count", [2, 12])
def test_listing_takes_the_same_queries_at_any_length(acme_api, acme, count, django_assert_num_queries):
    for number in range(count):
        factories.api_key(acme, f"Key {number}")
    acme_api.get("/v1/api-keys")  # writes last_used_at

    with django_assert_num_queries(3):  # the token, the keys, their secrets
        assert len(acme_api.get("/v1/api-keys").json()["items"]) == count


def test_rotation_keeps_the_key_and_ends_its_old_secret(acme_api, acme_key):
    path = f"/v1/api-keys/{acme_key.api_key.public_id}/rotation"
    response = acme_api.post(path, {"overlap_seconds": 3600})

    assert response.status_code == 201
    assert response.json()["id"] == acme_key.api_key.public_id
    assert response.json()["secret"] != acme_key.secret
    old = ApiKeySecret.objects.get(digest=acme_key.digest)
    assert timedelta(minutes=59) < old.expires_at - timezone.now() <= timedelta(hours=1)


def test_rotation_sent_again_rotates_once(acme_api, acme_key):
    path = f"/v1/api-keys/{acme_key.api_key.public_id}/rotation"
    acme_api.post(path, {}, headers={"Idempotency-Key": "a"})
    again = acme_api.post(path, {}, headers={"Idempotency-Key": "a"})

    assert again.status_code == 200
    assert again.json()["secret"] is None
    assert acme_key.api_key.secrets.count() == 2


def test_revoked_key_cannot_be_rotated(acme_api, acme_revoked_key):
    response = acme_api.post(f"/v1/api-keys/{acme_revoked_key.api_key.public_id}/rotation")

    assert response.status_code == 409
    assert response.json()["code"] == "api_key_revoked"


def test_revoking_twice_revokes_once(acme_api, acme_key, acme_access_token):
    path = f"/v1/api-keys/{acme_key.api_key.public_id}/revocation"
    first, second = acme_api.post(path).json(), acme_api.post(path).json()

    assert first == second
    assert first["status"] == "revoked"
    entry = AuditEntry.objects.get(action="api_key.revoked")
    assert entry.actor_label == f"access token Finance ({acme_access_token.token.public_id})"
    assert entry.ip_address == "127.0.0.1"


def test_key_of_another_organisation_does_not_exist(api, acme_key, globex):
    gus_api = api(factories.access_token(globex).secret)
    path = f"/v1/api-keys/{acme_key.api_key.public_id}"

    assert gus_api.get(path).status_code == 404
    assert gus_api.post(f"{path}/rotation").status_code == 404
    assert gus_api.post(f"{path}/revocation").status_code == 404
    assert gus_api.get("/v1/api-keys?organisation=acme").status_code == 404
    assert gus_api.post("/v1/api-keys", {"name": "x", "organisation": "acme"}).status_code == 404
    assert gus_api.get("/v1/api-keys").json()["items"] == []
    acme_key.api_key.refresh_from_db()
    assert acme_key.api_key.revoked_at is None


def test_project_of_another_organisation_is_unknown(acme_api, globex):
    theirs = factories.project(globex, "Theirs")
    response = acme_api.post("/v1/api-keys", {"name": "x", "project": theirs.public_id})

    assert response.status_code == 422
    assert response.json()["code"] == "unknown_project"


def test_service_token_names_the_organisation(api, service_token, acme, acme_key):
    operator_api = api(service_token.secret)

    assert operator_api.get("/v1/api-keys").json()["code"] == "organisation_required"
    assert len(operator_api.get("/v1/api-keys?organisation=acme").json()["items"]) == 1
    assert len(operator_api.get(f"/v1/api-keys?organisation={acme.public_id}").json()["items"]) == 1
    assert operator_api.get("/v1/api-keys?organisation=nobody").status_code == 404
    made = operator_api.post("/v1/api-keys", {"name": "By hand", "organisation": "acme"})
    assert made.status_code == 201
    assert ApiKey.objects.get(public_id=made.json()["id"]).organisation == acme


def test_missing_scope_is_named(api, acme):
    reader = factories.access_token(acme, scopes=[Scope.KEYS_READ])
    response = api(reader.secret).post("/v1/api-keys", {"name": "x"})

    assert response.status_code == 403
    assert response["Content-Type"] == "application/problem+json"
    assert response.json()["required_scope"] == "keys:write"
    assert ApiKey.objects.count() == 0


def test_revoked_and_expired_tokens_are_refused_at_once(api, acme, acme_access_token):
    client = api(acme_access_token.secret)
    assert client.get("/v1/api-keys").status_code == 200
    revoke_token(acme_access_token.token, actor="test")
    refused = client.get("/v1/api-keys")

    assert refused.status_code == 401
    assert refused.json()["code"] == "token_revoked"
    assert refused["WWW-Authenticate"].startswith("Bearer")

    other = factories.access_token(acme)
    type(other.token).objects.filter(pk=other.token.pk).update(expires_at=timezone.now())
    assert api(other.secret).get("/v1/api-keys").json()["code"] == "token_expired"


@pytest.mark.parametrize(
    ("header", "code"),
    [
        ({}, "authentication_required"),
        ({"Authorization": "Basic Zm9v"}, "authentication_malformed"),
        ({"Authorization": "Bearer "}, "authentication_malformed"),
        ({"Authorization": "Bearer kt-access-nothing"}, "unknown_token"),
        ({"Authorization": "Bearer kt-service-nothing"}, "unknown_token"),
        ({"Authorization": "Bearer \xff"}, "unknown_token"),
    ],
)
def test_request_without_a_good_token_is_refused(client, db, header, code):
    response = client.get("/v1/api-keys", headers=header)

    assert response.status_code == 401
    assert response.json()["code"] == code


def test_api_key_opens_nothing_here(api, acme_key):
    assert api(acme_key.secret).get("/v1/api-keys").json()["code"] == "unknown_token"


def test_last_use_is_written_once_a_minute(acme_api, acme_access_token, django_assert_num_queries):
    acme_api.get("/v1/api-keys")
    first = type(acme_access_token.token).objects.get().last_used_at
    acme_api.get("/v1/api-keys")

    assert first is not None
    assert type(acme_access_token.token).objects.get().last_used_at == first


def test_errors_are_problems(acme_api, acme_key):
    path = f"/v1/api-keys/{acme_key.api_key.public_id}"
    fields = acme_api.post("/v1/api-keys", {"expires_at": "soon"})
    malformed = acme_api.post("/v1/api-keys", "{", content_type="application/json")

    assert fields.status_code == 400
    assert {error["field"] for error in fields.json()["errors"]} == {"name", "expires_at"}
    assert malformed.json()["code"] == "malformed_json"
    assert acme_api.delete(path).status_code == 405
    assert acme_api.post("/v1/api-keys", "a=b", content_type="text/plain").status_code == 415
    assert acme_api.get("/v1/nothing").json()["code"] == "not_found"
    for response in (fields, malformed, acme_api.delete(path), acme_api.get("/v1/nothing")):
        assert response["Content-Type"] == "application/problem+json"
        assert {"type", "title", "status", "detail", "code"} <= set(response.json())


def test_openapi_document_describes_every_endpoint_with_examples(client, db):
    document = client.get("/v1/openapi.json").json()

    assert document["openapi"].startswith("3.")
    assert {"/v1/api-keys", "/v1/api-keys/{public_id}/rotation"} <= set(document["paths"])
    assert document["components"]["securitySchemes"]["token"]["scheme"] == "bearer"
    made = document["paths"]["/v1/api-keys"]["post"]["responses"]["201"]
    assert made["content"]["application/json"]["examples"]
