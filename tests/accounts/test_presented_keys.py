"""What is found of a key that somebody presents, and what restricts it."""

from datetime import UTC, datetime, timedelta

import pytest
from django.utils import timezone

from accounts import api_keys, key_restrictions
from accounts.api_keys import find_presented_key
from accounts.models import ApiKey
from accounts.organisations import suspend
from accounts.projects import archive_project
from tests import factories

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)


def test_key_is_found_by_the_digest_of_any_of_its_secrets_in_one_query(acme, acme_key, django_assert_num_queries):
    with django_assert_num_queries(0):  # prepared: past Django's log, and nothing besides
        found = find_presented_key(acme_key.digest)
    assert found.organisation_id == acme.pk
    assert found.organisation_public_id == acme.public_id
    assert found.time_zone == "Europe/Berlin"
    assert found.api_key_public_id == acme_key.api_key.public_id
    assert found.project_public_id == factories.default_project(acme).public_id
    assert (found.is_suspended, found.is_project_archived) == (False, False)
    assert (found.allowed_models, found.allowed_networks) == ([], [])
    assert found.status(timezone.now()) == "active"
    assert find_presented_key("0" * 64) is None


def test_secret_of_before_a_rotation_expires_with_the_overlap(acme_key, olivia):
    new = api_keys.rotate_api_key(acme_key.api_key, overlap=timedelta(hours=1), actor=olivia, now=NOON)
    old = find_presented_key(acme_key.digest)
    assert old.status(NOON + timedelta(minutes=59)) == "active"
    assert old.status(NOON + timedelta(hours=1)) == "expired"
    assert find_presented_key(new.digest).status(NOON + timedelta(days=400)) == "active"


def test_key_that_ends_takes_its_secrets_along(acme):
    key = factories.api_key(acme, expires_at=timezone.now() + timedelta(days=1))
    found = find_presented_key(key.digest)
    assert found.expires_at == key.api_key.expires_at
    assert found.status(found.expires_at) == "expired"


def test_revocation_suspension_and_archival_are_seen_at_once(acme, acme_key, olivia, operator):
    assert find_presented_key(acme_key.digest).status(timezone.now()) == "active"
    api_keys.revoke_api_key(acme_key.api_key, actor=olivia)
    assert find_presented_key(acme_key.digest).status(timezone.now()) == "revoked"
    suspend(acme, actor=operator)
    assert find_presented_key(acme_key.digest).is_suspended


def test_archived_project_is_told(acme, olivia):
    project = factories.project(acme, "Old")
    key = factories.api_key(acme, project=project)
    api_keys.revoke_api_key(key.api_key, actor=olivia)
    archive_project(project, actor=olivia)
    assert find_presented_key(key.digest).is_project_archived


def test_restrictions_are_stored_in_one_form(acme, olivia):
    key, credential = api_keys.create_api_key(
        acme,
        project=factories.default_project(acme),
        name="Narrow",
        actor=olivia,
        allowed_models=["claude-*", " gpt-5-mini ", "claude-*"],
        allowed_networks=["203.0.113.7", "2001:DB8:0::/32", "10.0.0.0/255.0.0.0"],
        metadata={"team": "search"},
    )
    assert key.allowed_models == ["claude-*", "gpt-5-mini"]
    assert key.allowed_networks == ["203.0.113.7/32", "2001:db8::/32", "10.0.0.0/8"]
    assert ApiKey.objects.get(pk=key.pk).metadata == {"team": "search"}
    found = find_presented_key(credential.digest)
    assert found.allows_model("claude-opus-4-5")
    assert not found.allows_model("gpt-5")
    assert found.allows_address("203.0.113.7")
    assert not found.allows_address("203.0.113.8")


@pytest.mark.parametrize("model", ["claude 4", "x" * 121, "gpt\n5", "modèle"])
def test_what_is_no_model_is_refused(model):
    with pytest.raises(key_restrictions.InvalidModels):
        key_restrictions.valid_models([model])


@pytest.mark.parametrize("network", ["10.0.0.1/8", "example.com", "300.1.1.1", "10.0.0.0/33", "::1/64"])
def test_what_is_no_network_is_refused(network):
    with pytest.raises(key_restrictions.InvalidNetworks):
        key_restrictions.valid_networks([network])


@pytest.mark.parametrize(
    "metadata",
    [{"": "x"}, {"a b": "x"}, {"a": 1}, {"a": "x" * 501}, {"a" * 41: "x"}, {f"k{i}": "" for i in range(21)}],
)
def test_metadata_are_bounded_texts(metadata):
    with pytest.raises(key_restrictions.InvalidMetadata):
        key_restrictions.valid_metadata(metadata)


def test_address_that_cannot_be_read_is_outside_of_every_network():
    assert key_restrictions.allows_address([], None)
    assert not key_restrictions.allows_address(["0.0.0.0/0"], None)
    assert not key_restrictions.allows_address(["0.0.0.0/0"], "unknown")
    assert key_restrictions.allows_address(["10.0.0.0/8"], "::ffff:10.1.2.3")
    assert not key_restrictions.allows_address(["10.0.0.0/8"], "2001:db8::1")
