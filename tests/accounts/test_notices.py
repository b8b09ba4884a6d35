"""E-mails about what others did to keys and tokens: who gets one, when, and that it holds no secret."""

from datetime import UTC, datetime, timedelta

import pytest
from django.core import mail
from django.urls import reverse
from django.utils import timezone

from accounts import api_keys, notices
from accounts.models import Membership, Notice, Role
from accounts.organisations import create_organisation
from accounts.tasks import forget_notices
from accounts.tokens import create_access_token, revoke_token
from tests import factories

NOON = datetime(2099, 11, 20, 12, tzinfo=UTC)


@pytest.fixture(autouse=True)
def _nothing_waits(acme):
    Notice.objects.all().delete()


@pytest.fixture
def ada(acme):
    user = factories.user("ada@acme.example", name="Ada Adler")
    factories.member(acme, user, Role.ADMIN)
    return user


def make(acme, actor, name="CI"):
    return api_keys.create_api_key(acme, project=factories.default_project(acme), name=name, actor=actor)


def told() -> set[str]:
    return {message.to[0] for message in mail.outbox}


def test_owners_and_admins_hear_of_what_others_did(acme, olivia, ada, martin, vera):
    key, credential = make(acme, martin)
    new = api_keys.rotate_api_key(key, overlap=timedelta(0), actor=martin)
    api_keys.revoke_api_key(key, actor=martin)
    assert notices.send_due(now=NOON) == 2
    assert told() == {olivia.email, ada.email}
    body = mail.outbox[0].body
    for words in ("Martin Maier made the key “CI”", "gave a new secret to the key", "revoked the key"):
        assert words in body
    assert reverse("accounts:key", args=["acme", key.public_id]) in body
    for secret in (credential.secret, new.secret, credential.last_four):
        assert secret not in body + str(mail.outbox[0].alternatives) + mail.outbox[0].subject


def test_nobody_hears_of_what_they_did_themselves(acme, olivia, ada):
    make(acme, olivia)
    notices.send_due(now=NOON)
    assert told() == {ada.email}


def test_maker_of_a_key_hears_that_it_was_revoked(acme, olivia, martin, vera):
    key, _ = make(acme, martin)
    Notice.objects.all().delete()
    api_keys.revoke_api_key(key, actor=olivia)
    notices.send_due(now=NOON)
    assert told() == {martin.email}
    Membership.objects.filter(user=martin).delete()
    key, _ = make(acme, olivia)
    assert not Notice.objects.filter(sent_at=None, user=martin).exists()


def test_tokens_are_told_too(acme, olivia, ada, martin):
    token, credential = create_access_token(acme, name="Finance", scopes=["usage:read"], actor=martin)
    revoke_token(token, actor=martin)
    notices.send_due(now=NOON)
    assert "made the access token “Finance”" in mail.outbox[0].body
    assert credential.secret not in mail.outbox[0].body


def test_notices_can_be_turned_off_in_the_profile(acme, olivia, martin, client_for):
    client = client_for(olivia)
    page = client.get(reverse("accounts:profile")).content.decode()
    assert "E-mail me about keys and tokens" in page
    client.post(reverse("accounts:profile"), {"name": "Olivia"})
    make(acme, martin)
    assert notices.send_due(now=NOON) == 0
    client.post(reverse("accounts:profile"), {"name": "Olivia", "wants_key_notices": "on"})
    make(acme, martin, "Again")
    assert notices.send_due(now=NOON) == 1


def test_software_that_makes_many_keys_fills_no_mailbox(acme, olivia):
    for number in range(30):
        make(acme, "access token", f"Key {number}")
    assert notices.send_due(now=NOON) == 1
    assert "And 5 more" in mail.outbox[0].body
    make(acme, "access token", "Later")
    assert notices.send_due(now=NOON + timedelta(minutes=14)) == 0
    assert notices.send_due(now=NOON + timedelta(minutes=16)) == 1
    assert notices.send_due(now=NOON + timedelta(days=1)) == 0


def test_each_organisation_has_a_message_of_its_own(acme, olivia, martin):
    other = create_organisation("Other", olivia)
    make(acme, martin)
    make(other, "access token")
    assert notices.send_due(now=NOON) == 2
    assert {message.subject for message in mail.outbox} == {"Keys of Acme have changed", "Keys of Other have changed"}


def test_message_that_is_not_taken_is_tried_again_and_holds_up_nobody(acme, olivia, ada, martin, settings):
    make(acme, martin)
    options = {"host": "127.0.0.1", "port": 1, "timeout": 1}
    settings.MAILERS = {"default": {"BACKEND": "django.core.mail.backends.smtp.EmailBackend", "OPTIONS": options}}
    assert notices.send_due(now=NOON) == 0
    settings.MAILERS = {"default": {"BACKEND": "django.core.mail.backends.locmem.EmailBackend"}}
    assert notices.send_due(now=NOON + timedelta(minutes=1)) == 0
    assert notices.send_due(now=NOON + timedelta(minutes=3)) == 2


def test_notices_of_long_ago_are_forgotten_unless_they_still_wait(acme, olivia, martin, settings, monkeypatch):
    monkeypatch.setattr(notices, "MOST_FORGOTTEN", 2)
    for number in range(5):
        make(acme, martin, f"Key {number}")
    sent, given_up, waiting, recent = Notice.objects.all()[:2], *Notice.objects.all()[2:]
    Notice.objects.filter(pk__in=[one.pk for one in [*sent, recent]]).update(sent_at=NOON)
    Notice.objects.filter(pk=given_up.pk).update(tries=notices.MOST_TRIES)
    Notice.objects.update(created_at=NOON - timedelta(days=100))
    Notice.objects.filter(pk=recent.pk).update(created_at=NOON)

    assert notices.forget_before(NOON - timedelta(days=90)) == 3

    assert set(Notice.objects.all()) == {waiting, recent}


def test_the_sweep_forgets_by_the_policy(acme, olivia, martin, settings):
    make(acme, martin)
    Notice.objects.update(sent_at=NOON)
    forget_notices()
    assert Notice.objects.count() == 1
    Notice.objects.update(created_at=timezone.now() - timedelta(days=settings.NOTICES_KEPT_DAYS + 1))
    forget_notices()
    assert not Notice.objects.exists()
