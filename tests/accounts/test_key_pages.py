"""The pages of keys, projects and access tokens: the secret is shown in one answer, and a reload makes nothing."""

import re

import pytest
from django.urls import reverse

from accounts.credentials import digest_of
from accounts.models import AccessToken, ApiKey, ApiKeySecret, Project
from tests import factories


def address(name: str, public_id: str = "") -> str:
    return reverse(f"accounts:{name}", args=["acme", *([public_id] if public_id else [])])


def request_key(response) -> str:
    return re.search(r'name="request_key" value="(\w+)"', response.content.decode())[1]


def secret_in(response) -> str:
    return re.search(r"(sk-kt-|kt-access-)[\w-]{43}", response.content.decode())[0]


@pytest.fixture
def martins(client_for, martin):
    return client_for(martin)


def test_new_key_is_shown_once_with_a_line_to_try_it(martins, acme, acme_key):
    form = martins.get(address("key_create"))
    filled = {
        "name": "CI",
        "project": factories.default_project(acme).public_id,
        "expires": "30",
        "request_key": request_key(form),
    }
    response = martins.post(address("key_create"), filled)

    made = ApiKey.objects.get(name="CI")
    secret = secret_in(response)
    assert ApiKeySecret.objects.get(api_key=made).digest == digest_of(secret)
    assert made.expires_at is not None
    assert "no-store" in response["Cache-Control"]
    html = response.content.decode()
    assert f"&quot;subject&quot;: &quot;{made.public_id}&quot;" in html
    assert "/v1/events" in html
    assert secret not in str(martins.session.items())
    for page in ("keys", "audit"):
        assert secret not in martins.get(address(page)).content.decode()
    assert secret not in martins.get(address("key", made.public_id)).content.decode()


def test_reloaded_form_makes_no_second_key_and_says_that_the_secret_is_gone(martins, acme):
    project = factories.default_project(acme).public_id
    filled = {"name": "CI", "project": project, "expires": "", "request_key": "abc"}
    first = martins.post(address("key_create"), filled)
    again = martins.post(address("key_create"), filled)

    assert ApiKey.objects.count() == 1
    assert secret_in(first) not in again.content.decode()
    assert b"It is not kept" in again.content


def test_key_form_offers_no_project_of_another_organisation(martins, globex):
    theirs = factories.default_project(globex)
    filled = {"name": "CI", "project": theirs.public_id, "request_key": "abc"}
    assert martins.post(address("key_create"), filled).status_code == 200
    assert ApiKey.objects.count() == 0


def test_wrong_form_says_so_and_keeps_what_was_typed(martins, acme):
    response = martins.post(address("key_create"), {"name": "", "project": "x", "request_key": "abc"})

    assert response.context["form"].errors.keys() == {"name", "project"}
    assert b'role="alert"' in response.content


def test_rotation_shows_the_new_secret_once(martins, acme_key):
    public_id = acme_key.api_key.public_id
    filled = {"overlap": "24", "request_key": request_key(martins.get(address("key_rotation", public_id)))}
    first = martins.post(address("key_rotation", public_id), filled)
    martins.post(address("key_rotation", public_id), filled)

    assert ApiKeySecret.objects.filter(digest=digest_of(secret_in(first))).exists()
    assert acme_key.api_key.secrets.count() == 2
    assert martins.get(address("key", public_id)).content.count(b"sk-kt-") >= 2


def test_revocation_asks_first(martins, acme_key):
    public_id = acme_key.api_key.public_id
    assert "Revoke “Production”?" in martins.get(address("key_revocation", public_id)).content.decode()
    acme_key.api_key.refresh_from_db()
    assert acme_key.api_key.revoked_at is None
    response = martins.post(address("key_revocation", public_id), follow=True)
    assert "was revoked" in response.content.decode()
    acme_key.api_key.refresh_from_db()
    assert acme_key.api_key.revoked_at is not None
    page = martins.get(address("key", public_id)).content.decode()
    assert address("key_rotation", public_id) not in page


def test_key_is_renamed(martins, acme_key):
    martins.post(address("key_change", acme_key.api_key.public_id), {"name": "Staging", "expires": "keep"})
    assert ApiKey.objects.get().name == "Staging"
    assert b"required" in martins.post(address("key_change", acme_key.api_key.public_id), {"name": ""}).content


def test_list_shows_active_keys_first_and_all_on_request(martins, acme, acme_key, acme_revoked_key):
    other = factories.project(acme, "Chat")
    factories.api_key(acme, "Chatting", project=other)

    def names(**query) -> list[str]:
        return [key.name for key, _ in martins.get(address("keys"), query).context["keys"]]

    assert names() == ["Chatting", "Production"]
    assert set(names(show="all")) == {"Chatting", "Production", "Old laptop"}
    assert names(project=other.public_id) == ["Chatting"]
    assert names(project="nothing") == []
    html = martins.get(address("keys")).content.decode()
    assert f"{acme_key.secret[:10]}…{acme_key.secret[-4:]}" in html


def test_empty_list_says_what_to_do(martins, client_for, vera):
    assert b"Make an API key" in martins.get(address("keys")).content
    assert b"Make an API key" not in client_for(vera).get(address("keys")).content


@pytest.mark.parametrize("count", [2, 30])
def test_list_takes_the_same_queries_at_any_length(martins, acme, count, django_assert_num_queries):
    for number in range(count):
        factories.api_key(acme, f"Key {number}")
    martins.get(address("keys"))

    # Session, user, membership; count, keys, secrets; the filter's projects; the switcher.
    with django_assert_num_queries(8):
        martins.get(address("keys"))


def test_projects_are_made_renamed_and_archived(martins, acme):
    martins.post(address("project_create"), {"name": "Chat"})
    chat = Project.objects.get(name="Chat")
    assert b"already has that name" in martins.post(address("project_create"), {"name": "Chat"}).content
    martins.post(address("project_name", chat.public_id), {"name": "Search"})
    assert (
        b"already has that name" in martins.post(address("project_name", chat.public_id), {"name": "Default"}).content
    )
    key = factories.api_key(acme, project=chat)
    refused = martins.post(address("project_archive", chat.public_id), follow=True)
    assert "Revoke the project" in refused.content.decode()
    key.api_key.revoked_at = key.api_key.created_at
    key.api_key.save()
    martins.post(address("project_archive", chat.public_id))
    chat.refresh_from_db()
    assert chat.name == "Search"
    assert chat.archived_at is not None
    assert b"Archived projects" in martins.get(address("projects")).content


@pytest.mark.parametrize("count", [2, 20])
def test_projects_take_the_same_queries_at_any_length(martins, acme, count, django_assert_num_queries):
    for number in range(count):
        factories.api_key(acme, project=factories.project(acme, f"Project {number}"))
    martins.get(address("projects"))

    with django_assert_num_queries(6):  # session, user, membership; active, archived; the switcher
        assert martins.get(address("projects")).context["projects"][1].live_keys == 1


def test_access_token_is_shown_once_and_revoked(martins, acme, api):
    filled = {"name": "Finance", "scopes": ["keys:read"], "expires": "", "request_key": "abc"}
    first = martins.post(address("access_token_create"), filled)
    again = martins.post(address("access_token_create"), filled)

    secret = secret_in(first)
    token = AccessToken.objects.get()
    assert secret not in again.content.decode()
    assert token.scopes == ["keys:read"]
    assert api(secret).get("/v1/api-keys").status_code == 200
    martins.post(address("access_token_revocation", token.public_id))
    assert api(secret).get("/v1/api-keys").status_code == 401
    assert secret not in martins.get(address("access_tokens")).content.decode()


@pytest.mark.parametrize("count", [2, 20])
def test_tokens_take_the_same_queries_at_any_length(martins, acme, count, django_assert_num_queries):
    for number in range(count):
        factories.access_token(acme, f"Token {number}")
    martins.get(address("access_tokens"))

    with django_assert_num_queries(5):  # session, user, membership; tokens; the switcher
        martins.get(address("access_tokens"))
