"""Service and access tokens: which scopes they may have, and what is kept of them."""

from datetime import timedelta

import pytest
from django.utils import timezone

from accounts.credentials import digest_of
from accounts.models import AccessToken, AuditEntry, Scope
from accounts.organisations import OrganisationSuspended, suspend
from accounts.tokens import (
    InvalidScopes,
    InvalidTokenExpiry,
    InvalidTokenName,
    create_access_token,
    create_service_token,
    revoke_token,
)


def test_only_the_digest_is_kept(acme, olivia):
    token, credential = create_access_token(acme, name="Finance", scopes=[Scope.USAGE_READ], actor=olivia)

    assert credential.secret.startswith("kt-access-")
    assert token.digest == digest_of(credential.secret)
    assert credential.secret not in str(AccessToken.objects.values().get())
    assert credential.secret not in str(list(AuditEntry.objects.values()))
    assert token.created_by == olivia


def test_organisations_send_no_events(acme, olivia):
    with pytest.raises(InvalidScopes):
        create_access_token(acme, name="x", scopes=[Scope.EVENTS_WRITE], actor=olivia)


@pytest.mark.parametrize("scopes", [[], ["everything"], [Scope.USAGE_READ, "more"]])
def test_odd_scopes_are_refused(db, scopes):
    with pytest.raises(InvalidScopes):
        create_service_token("x", scopes, actor="test")


def test_odd_names_and_ends_are_refused(acme):
    with pytest.raises(InvalidTokenName):
        create_service_token(" ", [Scope.USAGE_READ], actor="test")
    with pytest.raises(InvalidTokenExpiry):
        create_service_token("x", [Scope.USAGE_READ], actor="test", expires_at=timezone.now() - timedelta(days=1))


def test_suspended_organisation_makes_no_tokens(acme, olivia, operator):
    suspend(acme, actor=operator)
    with pytest.raises(OrganisationSuspended):
        create_access_token(acme, name="Finance", scopes=[Scope.USAGE_READ], actor=olivia)
    assert not AccessToken.objects.exists()


def test_acts_on_service_tokens_concern_the_installation(operator):
    token, _ = create_service_token("Gateway", [Scope.EVENTS_WRITE], actor=operator)
    assert [revoke_token(token, actor=operator) for _ in range(2)] == [True, False]

    entries = AuditEntry.objects.filter(subject_id=token.public_id).order_by("pk")
    assert [entry.action for entry in entries] == ["service_token.created", "service_token.revoked"]
    assert {entry.organisation for entry in entries} == {None}
