"""Invitations: sending, renewing, accepting, withdrawing, and the page behind the link in every state."""

from datetime import timedelta

import pytest
from django.core import mail
from django.urls import reverse
from django.utils import timezone

from accounts.credentials import digest_of
from accounts.memberships import (
    AlreadyMember,
    InvitationNotUsable,
    OtherAddress,
    OwnersOnly,
    accept_invitation,
    invite,
    withdraw_invitation,
)
from accounts.models import AuditEntry, Invitation, Membership, Role
from tests import factories
from tests.accounts.threads import at_once


@pytest.fixture
def nina(db):
    """Nobody's member yet."""
    return factories.user("nina@acme.example", name="Nina Neu")


@pytest.fixture
def invitation(acme, olivia):
    """(invitation, token) for nina's address."""
    made, token = invite(acme, "Nina@Acme.example", Role.DEVELOPER, invited_by=olivia)
    return made, token.secret


def page(token: str) -> str:
    return reverse("accounts:invitation_accept", args=[token])


def test_only_the_digest_of_the_token_is_kept(invitation):
    made, token = invitation
    assert made.token_digest == digest_of(token)
    assert made.email == "nina@acme.example"
    assert token not in str(Invitation.objects.values().get())
    assert token not in str(list(AuditEntry.objects.values()))


def test_accepted_invitation_makes_a_member_once(acme, invitation, nina):
    first = accept_invitation(invitation[0], nina)
    second = accept_invitation(invitation[0], nina)

    assert first == second
    assert first.role == "developer"
    assert AuditEntry.objects.filter(action="invitation.accepted").count() == 1


@pytest.mark.django_db(transaction=True)
def test_invitation_accepted_twice_at_once_makes_one_member(acme, invitation, nina):
    done = at_once(lambda: accept_invitation(invitation[0], nina), lambda: accept_invitation(invitation[0], nina))
    assert done[0] == done[1] == Membership.objects.get(user=nina)


def test_invitation_is_for_its_address_alone(invitation, gus):
    with pytest.raises(OtherAddress):
        accept_invitation(invitation[0], gus)


def test_inviting_again_renews_and_ends_the_first_link(acme, olivia, invitation, nina, client):
    renewed, token = invite(acme, "nina@acme.example", Role.VIEWER, invited_by=olivia)

    assert renewed.pk == invitation[0].pk
    assert renewed.role == "viewer"
    assert client.get(page(invitation[1])).status_code == 404
    assert Invitation.objects.count() == 1
    assert token.digest == Invitation.objects.get().token_digest


def test_member_is_not_invited_again(acme, olivia, vera):
    with pytest.raises(AlreadyMember):
        invite(acme, vera.email.upper(), Role.ADMIN, invited_by=olivia)


def test_admin_invites_no_owner(acme):
    adam = factories.user("adam@acme.example")
    factories.member(acme, adam, Role.ADMIN)
    with pytest.raises(OwnersOnly):
        invite(acme, "x@acme.example", Role.OWNER, invited_by=adam)


def test_withdrawn_and_expired_invitations_cannot_be_used(acme, olivia, invitation, nina):
    later = timezone.now() + timedelta(days=8)
    with pytest.raises(InvitationNotUsable):
        accept_invitation(invitation[0], nina, now=later)
    assert [withdraw_invitation(invitation[0], actor=olivia) for _ in range(2)] == [True, False]
    with pytest.raises(InvitationNotUsable):
        accept_invitation(invitation[0], nina)
    assert not Membership.objects.filter(user=nina).exists()


def test_removed_member_does_not_come_back_through_a_used_link(acme, olivia, invitation, nina):
    accept_invitation(invitation[0], nina).delete()
    with pytest.raises(InvitationNotUsable):
        accept_invitation(invitation[0], nina)


def test_invitation_form_sends_a_link_that_lets_its_reader_in(acme, olivia, nina, client_for):
    address = reverse("accounts:invitation_create", args=["acme"])
    response = client_for(olivia).post(address, {"email": nina.email, "role": "billing"})

    assert response.status_code == 302
    message = mail.outbox[0]
    assert message.to == [nina.email]
    assert message.subject == "Olivia Ortiz invites you to Acme"
    link = next(word for word in message.body.split() if "/invitations/" in word)
    assert link in message.alternatives[0].content
    path = "/invitations/" + link.split("/invitations/")[1]
    client = client_for(nina)
    assert b"Join Acme" in client.get(path).content
    assert client.post(path).status_code == 302
    assert Membership.objects.get(user=nina).role == "billing"


def test_wrongly_filled_invitation_form_says_what_is_wrong(acme, olivia, vera, client_for):
    address = reverse("accounts:invitation_create", args=["acme"])
    response = client_for(olivia).post(address, {"email": vera.email, "role": "viewer"})

    assert b"already a member" in response.content
    assert not mail.outbox


def test_admin_is_not_offered_to_invite_owners(acme, client_for):
    adam = factories.user("adam@acme.example")
    factories.member(acme, adam, Role.ADMIN)
    client = client_for(adam)
    response = client.post(
        reverse("accounts:invitation_create", args=["acme"]), {"email": "x@y.example", "role": "owner"}
    )

    assert not Invitation.objects.filter(email="x@y.example").exists()
    assert response.status_code == 200


def test_link_explains_itself_in_every_state(acme, olivia, invitation, nina, gus, client, client_for):
    token = invitation[1]
    assert b"Sign in" in client.get(page(token)).content
    nina.delete()
    assert b"Sign up" in client.get(page(token)).content
    assert b"signed in as" in client_for(gus).get(page(token)).content
    client_for(gus).post(page(token))
    assert not Membership.objects.filter(user=gus, organisation=acme).exists()
    Invitation.objects.update(expires_at=timezone.now())
    assert b"has expired" in client.get(page(token)).content
    Invitation.objects.update(revoked_at=timezone.now())
    assert b"was withdrawn" in client.get(page(token)).content
    Invitation.objects.update(revoked_at=None, accepted_at=timezone.now())
    assert b"has been used" in client.get(page(token)).content
    assert client.get(page("kt-invite-nothing")).status_code == 404


def test_withdrawal_asks_first(acme, olivia, invitation, client_for):
    address = reverse("accounts:invitation_withdrawal", args=["acme", invitation[0].public_id])
    client = client_for(olivia)
    assert b"Withdraw the invitation?" in client.get(address).content
    assert Invitation.objects.get().revoked_at is None
    client.post(address)
    assert Invitation.objects.get().revoked_at is not None
