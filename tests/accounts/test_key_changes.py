"""Changing a key: what it may do, until when, and the notes kept with it, through every door."""

from datetime import UTC, datetime, timedelta

import pytest
from django.urls import reverse
from django.utils import timezone

from accounts import api_keys
from accounts.api_keys import find_presented_key, revoke_api_key
from accounts.key_changes import change_api_key
from accounts.key_restrictions import InvalidNetworks
from accounts.models import ApiKey, AuditEntry
from tests import factories

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)


@pytest.fixture
def martins(client_for, martin):
    return client_for(martin)


@pytest.fixture
def acme_api(api, acme_access_token):
    return api(acme_access_token.secret)


def page(name: str, *ids: object, slug: str = "acme") -> str:
    return reverse(f"accounts:{name}", args=[slug, *ids])


def test_change_holds_at_once_and_says_what_was_before(acme_key, olivia):
    key = acme_key.api_key
    change_api_key(key, {"allowed_models": ["claude-*"], "metadata": {"team": "search"}}, actor=olivia, now=NOON)
    change_api_key(key, {"metadata": {"team": "chat", "env": "live"}}, actor=olivia, now=NOON)

    assert not find_presented_key(acme_key.digest).allows_model("gpt-5")
    first, second = AuditEntry.objects.filter(action="api_key.changed").order_by("pk")
    assert first.details == {"allowed_models": ["any", "claude-*"], "metadata team": ["none", "search"]}
    assert second.details == {"metadata env": ["none", "live"], "metadata team": ["search", "chat"]}


def test_same_again_is_no_change(acme_key, olivia):
    for _ in range(2):
        change_api_key(acme_key.api_key, {"allowed_networks": ["10.0.0.1"]}, actor=olivia, now=NOON)
    assert AuditEntry.objects.filter(action="api_key.changed").count() == 1


def test_end_is_moved_into_the_future_only_and_taken_back(acme_key, olivia):
    key = acme_key.api_key
    with pytest.raises(api_keys.InvalidExpiry):
        change_api_key(key, {"expires_at": NOON}, actor=olivia, now=NOON)
    change_api_key(key, {"expires_at": NOON + timedelta(days=1)}, actor=olivia, now=NOON)
    assert find_presented_key(acme_key.digest).status(NOON + timedelta(days=2)) == "expired"
    change_api_key(key, {"expires_at": None}, actor=olivia, now=NOON)
    assert find_presented_key(acme_key.digest).status(NOON + timedelta(days=2)) == "active"


def test_key_that_ended_keeps_its_end_and_takes_another_name(acme, acme_key, olivia):
    late = timezone.now() + timedelta(days=3)
    short = factories.api_key(acme, expires_at=late - timedelta(days=1))
    with pytest.raises(api_keys.ApiKeyExpired):
        change_api_key(short.api_key, {"expires_at": None}, actor=olivia, now=late)
    revoke_api_key(acme_key.api_key, actor=olivia)
    with pytest.raises(api_keys.ApiKeyRevoked):
        change_api_key(acme_key.api_key, {"allowed_models": ["gpt-5"]}, actor=olivia, now=NOON)
    renamed = change_api_key(
        acme_key.api_key, {"name": "Gone", "expires_at": None, "metadata": {}}, actor=olivia, now=NOON
    )
    assert renamed.name == "Gone"


def test_wrong_restriction_changes_nothing(acme_key, olivia):
    with pytest.raises(InvalidNetworks):
        change_api_key(acme_key.api_key, {"name": "New", "allowed_networks": ["home"]}, actor=olivia, now=NOON)
    assert ApiKey.objects.get().name == "Production"


# --- The portal -------------------------------------------------------------------------------------------------------


def test_restrictions_are_typed_one_per_line(martins, acme, acme_key):
    address = page("key_change", acme_key.api_key.public_id)
    filled = {
        "name": "Production",
        "expires": "keep",
        "allowed_models": "claude-*\r\ngpt-5-mini, o4",
        "allowed_networks": "203.0.113.7\r\n2001:db8::/32",
        "metadata": "team = search\r\nticket = OPS-1 = urgent",
    }
    assert martins.post(address, filled).status_code == 302
    key = ApiKey.objects.get()
    assert key.allowed_models == ["claude-*", "gpt-5-mini", "o4"]
    assert key.allowed_networks == ["203.0.113.7/32", "2001:db8::/32"]
    assert key.metadata == {"team": "search", "ticket": "OPS-1 = urgent"}
    shown = martins.get(page("key", key.public_id)).content.decode()
    for text in ("claude-*, gpt-5-mini, o4", "203.0.113.7/32", "OPS-1 = urgent", "api_key.changed"):
        assert text in shown
    form = martins.get(address).content.decode()
    assert "team = search" in form


@pytest.mark.parametrize(
    ("field", "typed", "sentence"),
    [
        ("allowed_models", "gpt 5 münchen", "is not the name of a model"),
        ("allowed_networks", "10.0.0.1/8", "write 10.0.0.0/8 for the whole network"),
        ("metadata", "search", "as a name, = and a text"),
        ("metadata", "a = 1\na = 2", "named twice"),
    ],
)
def test_what_is_wrong_is_said_at_its_field(martins, acme_key, field, typed, sentence):
    filled = {"name": "P", "expires": "keep", field: typed}
    response = martins.post(page("key_change", acme_key.api_key.public_id), filled)
    assert sentence in response.context["form"].errors[field][0]
    assert ApiKey.objects.get().name == "Production"


def test_untouched_field_does_not_undo_what_somebody_else_changed(martins, acme_key, olivia):
    address = page("key_change", acme_key.api_key.public_id)
    opened = martins.get(address).context["form"].initial
    change_api_key(acme_key.api_key, {"name": "Renamed"}, actor=olivia, now=NOON)
    martins.post(address, {**opened, "name": "Renamed", "expires": "30", "metadata": "a = b"})
    key = ApiKey.objects.get()
    assert (key.name, key.metadata) == ("Renamed", {"a": "b"})
    assert key.expires_at > timezone.now() + timedelta(days=29)


def test_key_is_made_with_restrictions(martins, acme):
    filled = {
        "name": "CI",
        "project": factories.default_project(acme).public_id,
        "expires": "",
        "request_key": "abc",
        "allowed_models": "gpt-5*",
        "allowed_networks": "10.0.0.0/8",
        "metadata": "team = ci",
    }
    assert martins.post(page("key_create"), filled).status_code == 200
    key = ApiKey.objects.get()
    assert (key.allowed_models, key.allowed_networks, key.metadata) == (["gpt-5*"], ["10.0.0.0/8"], {"team": "ci"})
    wrong = {**filled, "allowed_networks": "here", "request_key": "def"}
    assert b'<details class="disclosure" open>' in martins.post(page("key_create"), wrong).content


def test_form_of_a_revoked_key_offers_name_and_notes_only(martins, acme_revoked_key):
    form = martins.get(page("key_change", acme_revoked_key.api_key.public_id)).context["form"]
    assert set(form.fields) == {"name", "metadata"}


def test_page_keeps_the_secrets_of_before(martins, acme_key, olivia):
    api_keys.rotate_api_key(acme_key.api_key, overlap=timedelta(0), actor=olivia)
    shown = martins.get(page("key", acme_key.api_key.public_id)).content.decode()
    assert f"…{acme_key.secret[-4:]}" in shown
    assert "ended " in shown
    assert "api_key.rotated" in shown


# --- The API ----------------------------------------------------------------------------------------------------------


def test_api_makes_and_changes_restrictions(acme_api, acme):
    made = acme_api.post(
        "/v1/api-keys",
        {"name": "P", "allowed_models": ["gpt-5*"], "allowed_networks": ["10.0.0.1"], "metadata": {"a": "b"}},
    ).json()
    assert (made["allowed_models"], made["allowed_networks"]) == (["gpt-5*"], ["10.0.0.1/32"])
    address = f"/v1/api-keys/{made['id']}"
    changed = acme_api.patch(address, {"allowed_networks": [], "name": "Q"}, content_type="application/json")
    assert changed.status_code == 200
    assert changed.json()["allowed_networks"] == []
    assert changed.json()["name"] == "Q"
    assert changed.json()["metadata"] == {"a": "b"}


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"allowed_networks": ["x"]}, 422, "invalid_networks"),
        ({"allowed_models": ["a b"]}, 422, "invalid_models"),
        ({"metadata": {"a b": "c"}}, 422, "invalid_metadata"),
        ({"expires_at": "2020-01-01T00:00:00Z"}, 422, "invalid_expiry"),
        ({"metadata": {"a": {"b": "c"}}}, 400, "invalid_request"),
        ({"allowed_models": "gpt-5"}, 400, "invalid_request"),
    ],
)
def test_api_refuses_what_cannot_be(acme_api, acme_key, body, status, code):
    response = acme_api.patch(f"/v1/api-keys/{acme_key.api_key.public_id}", body, content_type="application/json")
    assert (response.status_code, response.json()["code"]) == (status, code)


def test_reading_token_changes_nothing(api, acme, acme_key):
    token = factories.access_token(acme, scopes=["keys:read"])
    response = api(token.secret).patch(
        f"/v1/api-keys/{acme_key.api_key.public_id}", {"name": "Q"}, content_type="application/json"
    )
    assert response.json()["code"] == "missing_scope"


def test_list_is_filtered_and_paged(acme_api, acme, acme_key, acme_revoked_key):
    other = factories.project(acme, "Chat")
    used = factories.api_key(acme, "Used", project=other, expires_at=timezone.now() + timedelta(days=1)).api_key
    api_keys.touch_last_used({used.pk: timezone.now()})

    def names(**query: str) -> list[str]:
        return [key["name"] for key in acme_api.get("/v1/api-keys", query).json()["items"]]

    assert names() == ["Used", "Old laptop", "Production"]
    assert names(status="active") == ["Used", "Production"]
    assert names(status="revoked") == ["Old laptop"]
    assert names(status="expired") == []
    assert names(project=other.public_id) == ["Used"]
    assert names(unused_since=(timezone.now() + timedelta(days=1)).isoformat()) == ["Used", "Old laptop", "Production"]
    ApiKey.objects.exclude(pk=used.pk).update(created_at=NOON)
    assert names(unused_since=(timezone.now() - timedelta(hours=1)).isoformat()) == ["Old laptop", "Production"]
    first = acme_api.get("/v1/api-keys", {"status": "active", "limit": "1"}).json()
    rest = acme_api.get("/v1/api-keys", {"status": "active", "limit": "1", "cursor": first["next_cursor"]}).json()
    assert [key["name"] for key in first["items"] + rest["items"]] == ["Used", "Production"]
    assert acme_api.get("/v1/api-keys", {"status": "odd"}).json()["code"] == "invalid_request"


# --- The admin --------------------------------------------------------------------------------------------------------


def test_operator_changes_a_key_through_the_verb(client_for, operator, acme_key):
    admin = client_for(operator)
    address = reverse("admin:accounts_apikey_change", args=[acme_key.api_key.pk])
    filled = {"name": "Production", "expires_at_0": "", "expires_at_1": "", "metadata": "", "allowed_models": "gpt-5*"}
    inline = {"secrets-TOTAL_FORMS": "0", "secrets-INITIAL_FORMS": "0"}
    assert admin.post(address, {**filled, **inline, "allowed_networks": "here"}).status_code == 200
    assert ApiKey.objects.get().allowed_models == []
    assert admin.post(address, {**filled, **inline, "allowed_networks": "10.0.0.0/8"}).status_code == 302
    assert ApiKey.objects.get().allowed_networks == ["10.0.0.0/8"]
    entry = AuditEntry.objects.get(action="api_key.changed")
    assert entry.actor == operator
    past = {**filled, **inline, "expires_at_0": "2020-01-01", "expires_at_1": "00:00:00"}
    assert b"must be in the future" in admin.post(address, past).content
