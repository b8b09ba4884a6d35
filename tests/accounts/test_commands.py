"""The commands: what they make, what they print, and how they fail."""

import json
from io import StringIO

import pytest
from django.core.management import CommandError, call_command

from accounts.credentials import digest_of
from accounts.models import ApiKey, ApiKeySecret, AuditEntry, Membership, ServiceToken, User


def run(name: str, *arguments: str) -> dict:
    out = StringIO()
    call_command(name, *arguments, "--json", stdout=out)
    return json.loads(out.getvalue())


def refusal(name: str, *arguments: str) -> tuple[int, dict]:
    out = StringIO()
    with pytest.raises(CommandError) as error:
        call_command(name, *arguments, "--json", stdout=out)
    return error.value.returncode, json.loads(out.getvalue())["error"]


def test_organisation_is_made_with_a_new_owner_who_can_sign_in(db, client):
    made = run(
        "create_organisation",
        *("--name", "Acme GmbH", "--owner-email", "Olivia@Acme.example", "--owner-password", "a long passphrase"),
        *("--time-zone", "Europe/Berlin"),
    )

    assert made["slug"] == "acme-gmbh"
    assert made["owner_created"] is True
    assert made["organisation"].startswith("org_")
    owner = User.objects.get(email="olivia@acme.example")
    assert owner.check_password("a long passphrase")
    assert owner.emailaddress_set.get().verified
    assert Membership.objects.get(user=owner).role == "owner"
    assert AuditEntry.objects.get(action="organisation.created").actor_label == "command create_organisation"


def test_existing_owner_keeps_the_password(olivia):
    before = olivia.password
    made = run(
        "create_organisation", "--name", "Other", "--owner-email", olivia.email, "--owner-password", "another one"
    )

    olivia.refresh_from_db()
    assert made["owner_created"] is False
    assert olivia.password == before


def test_refused_organisation_leaves_no_user_behind(acme):
    code, error = refusal("create_organisation", "--name", "A", "--slug", "acme", "--owner-email", "new@x.example")

    assert (code, error["code"]) == (1, "slug_taken")
    assert not User.objects.filter(email="new@x.example").exists()


def test_unknown_zone_is_refused(db):
    code, error = refusal("create_organisation", "--name", "A", "--owner-email", "a@x.example", "--time-zone", "Mars/X")
    assert (code, error["code"]) == (1, "invalid_time_zone")


def test_key_is_made_with_its_secret(acme):
    made = run("create_api_key", "--organisation", "acme", "--name", "CI")

    assert ApiKey.objects.get(public_id=made["api_key"]).organisation == acme
    assert ApiKeySecret.objects.get().digest == digest_of(made["secret"]) == made["digest"]


def test_key_of_an_unknown_organisation_or_project_is_refused(acme):
    assert refusal("create_api_key", "--organisation", "nobody", "--name", "CI")[1]["code"] == "unknown_organisation"
    code, error = refusal("create_api_key", "--organisation", "acme", "--name", "CI", "--project", "Nothing")
    assert (code, error["code"]) == (1, "unknown_project")


def test_tokens_work_as_printed(acme, api):
    service = run("create_service_token", "--name", "Gateway", "--scope", "keys:read")
    access = run("create_access_token", "--organisation", acme.public_id, "--name", "Finance")

    assert service["scopes"] == ["keys:read"]
    assert api(service["secret"]).get("/v1/api-keys?organisation=acme").status_code == 200
    assert api(access["secret"]).get("/v1/api-keys").status_code == 200


def test_secret_alone_is_printed_for_use_in_other_commands(db):
    out = StringIO()
    call_command("create_service_token", "--name", "Gateway", "--only-secret", stdout=out)

    assert ServiceToken.objects.get().digest == digest_of(out.getvalue().strip())


def test_results_are_readable_without_json(acme):
    out = StringIO()
    call_command("create_api_key", "--organisation", "acme", "--name", "CI", stdout=out)

    assert "name: CI" in out.getvalue()
    assert "expires at: -" in out.getvalue()


def test_unknown_scope_is_a_usage_error(db):
    with pytest.raises(CommandError):
        call_command("create_service_token", "--name", "x", "--scope", "everything")
