"""Signing up, confirming, signing in, resetting: through the pages and the mailbox, as a person does."""

import re

import pytest
from allauth.account.models import EmailAddress
from django.core import mail
from django.core.cache import caches
from django.db import connection
from django.test import Client
from django.urls import reverse

from accounts.memberships import invite, withdraw_invitation
from accounts.models import Invitation, Membership, Role, User
from tests import factories

PASSWORD = "correct horse battery staple"


def link_in(message, part: str) -> str:
    """The path of the link in a message's text that contains `part`; its HTML must have the same."""
    link = next(word for word in message.body.split() if part in word)
    assert link in message.alternatives[0].content.replace("&amp;", "&")
    return re.sub(r"^https?://[^/]+", "", link)


def sign_up(client: Client, email: str, **extra) -> object:
    return client.post(reverse("account_signup"), {"email": email, "password1": PASSWORD, **extra})


def test_newcomer_signs_up_confirms_and_lands_at_the_first_organisation(client, db):
    sign_up(client, "Nina@New.example")
    user = User.objects.get()
    assert user.email == "nina@new.example"
    assert client.get("/home/").status_code == 302  # not signed in before the confirmation
    assert len(mail.outbox) == 1
    assert mail.outbox[0].subject == "Confirm your e-mail address"

    confirmation = link_in(mail.outbox[0], "/confirm-email/")
    assert client.get(confirmation).status_code == 200
    assert not EmailAddress.objects.get().verified  # a mail scanner that follows links confirms nothing
    response = client.post(confirmation, follow=True)

    assert EmailAddress.objects.get().verified
    assert response.request["PATH_INFO"] == "/organisations/new/"
    assert response.context["user"] == user


def test_unconfirmed_newcomer_cannot_sign_in(client, db):
    sign_up(client, "nina@new.example")
    fresh = Client()
    fresh.post(reverse("account_login"), {"login": "nina@new.example", "password": PASSWORD})
    assert "_auth_user_id" not in fresh.session


def test_signing_in_takes_the_address_in_any_case(olivia, client):
    response = client.post(reverse("account_login"), {"login": "Olivia@ACME.example", "password": factories.PASSWORD})
    assert response["Location"] == "/home/"
    assert client.session["_auth_user_id"] == str(olivia.pk)


def test_signing_up_twice_tells_the_owner_and_nobody_else(olivia, client):
    new = sign_up(client, "olivia@acme.example")
    other = sign_up(Client(), "somebody@new.example")

    assert new.status_code == other.status_code
    assert new["Location"] == other["Location"]
    assert [message.subject for message in mail.outbox] == [
        "You already have an account",
        "Confirm your e-mail address",
    ]
    assert User.objects.filter(email="olivia@acme.example").count() == 1


@pytest.mark.parametrize("password", ["short", "1234567890123", "password12"])
def test_weak_password_is_refused(client, db, password):
    client.post(reverse("account_signup"), {"email": "nina@new.example", "password1": password})
    assert not User.objects.exists()


def test_password_is_reset_through_the_mailbox(olivia, client):
    client.post(reverse("account_reset_password"), {"email": olivia.email})
    assert mail.outbox[0].subject == "Choose a new password"
    link = link_in(mail.outbox[0], "/password/reset/key/")
    form = client.get(link, follow=True)
    path = form.redirect_chain[-1][0]
    client.post(path, {"password1": PASSWORD, "password2": PASSWORD})

    olivia.refresh_from_db()
    assert olivia.check_password(PASSWORD)
    assert b"password1" not in Client().get(link, follow=True).content  # the link works once


def test_reset_for_an_unknown_address_says_so_only_there(client, db):
    response = client.post(reverse("account_reset_password"), {"email": "nobody@new.example"})
    assert response.status_code == 302
    assert mail.outbox[0].subject == "There is no account with this address"


@pytest.fixture
def invitation(acme, olivia):
    """The path of a link that was sent to nina."""
    _, token = invite(acme, "nina@new.example", Role.DEVELOPER, invited_by=olivia)
    return reverse("accounts:invitation_accept", args=[token.secret])


def test_invited_newcomer_is_a_member_right_after_signing_up(invitation, acme, client):
    client.get(invitation)
    response = sign_up(client, "nina@new.example", next=invitation)

    user = User.objects.get(email="nina@new.example")
    assert EmailAddress.objects.get(user=user).verified
    assert Membership.objects.get(user=user).role == "developer"
    assert client.session["_auth_user_id"] == str(user.pk)
    assert response["Location"] == invitation
    assert client.get(invitation)["Location"] == "/o/acme/"
    assert not mail.outbox


def test_link_confirms_no_other_address(invitation, client):
    client.get(invitation)
    sign_up(client, "mallory@new.example", next=invitation)

    user = User.objects.get(email="mallory@new.example")
    assert not EmailAddress.objects.filter(user=user, verified=True).exists()
    assert not user.memberships.exists()
    assert "_auth_user_id" not in client.session


def test_withdrawn_link_confirms_nothing(invitation, client):
    withdraw_invitation(Invitation.objects.get(), actor="test")
    client.get(invitation)
    sign_up(client, "nina@new.example")
    assert not EmailAddress.objects.filter(verified=True, email="nina@new.example").exists()


def test_guessing_passwords_is_stopped_in_every_process(olivia):
    """The counters lie in the database, so that another process knows of earlier guesses."""
    for _ in range(5):
        Client().post(reverse("account_login"), {"login": olivia.email, "password": "wrong"})
    caches.close_all()
    client = Client()
    response = client.post(reverse("account_login"), {"login": olivia.email, "password": factories.PASSWORD})

    assert "_auth_user_id" not in client.session
    assert b"Too many" in response.content
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM cache_entry")
        assert cursor.fetchone()[0] > 0
