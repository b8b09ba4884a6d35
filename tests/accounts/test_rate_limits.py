"""Guessing is slow: passwords, resets, sign-ups, tokens and invitations are limited by place, passwords by account."""

from datetime import UTC, datetime, timedelta

import pytest
import time_machine
from django.core import mail
from django.test import Client, RequestFactory
from django.urls import reverse

from accounts import rate_limits
from accounts.models import User
from tests import factories

NOON = datetime(2026, 11, 20, 12, 0, 10, tzinfo=UTC)


@pytest.fixture(autouse=True)
def clock():
    """Windows begin and end when a test says so."""
    with time_machine.travel(NOON, tick=False) as clock:
        yield clock


def sign_in(client: Client, email: str, password: str, place: str = "198.51.100.1"):
    return client.post(reverse("account_login"), {"login": email, "password": password}, REMOTE_ADDR=place)


def test_password_of_one_account_is_not_guessed_from_many_places(client, acme, olivia, clock):
    for number in range(5):
        assert sign_in(client, olivia.email, "wrong", f"198.51.100.{number}").status_code == 200
    refused = sign_in(client, olivia.email, factories.PASSWORD, "198.51.100.99")
    assert refused.status_code == 200
    assert b"Too many failed" in refused.content
    clock.shift(timedelta(minutes=6))
    assert sign_in(client, olivia.email, factories.PASSWORD).status_code == 302


def test_one_place_does_not_guess_many_accounts(client, db):
    answers = [sign_in(client, f"person{number}@x.example", "wrong") for number in range(31)]
    assert [answer.status_code for answer in answers[:10]] == [200] * 10
    assert b"Too many failed" in answers[11].content or answers[11].status_code == 429
    assert answers[30].status_code == 429


def test_resets_are_limited_by_account_and_place(client, olivia):
    address = reverse("account_reset_password")
    answers = [
        client.post(address, {"email": olivia.email}, REMOTE_ADDR=f"198.51.100.{number}").status_code
        for number in range(6)
    ]
    assert answers == [302] * 5 + [429]
    assert len(mail.outbox) <= 5
    answers = [client.post(address, {"email": f"p{number}@x.example"}).status_code for number in range(21)]
    assert answers[-1] == 429


def test_sign_ups_are_limited_by_place(client, db):
    answers = [
        client.post(
            reverse("account_signup"), {"email": f"p{number}@x.example", "password1": factories.PASSWORD}
        ).status_code
        for number in range(21)
    ]
    assert answers[-1] == 429
    assert User.objects.count() == 20


def test_guessing_tokens_is_limited_and_valid_ones_pass(api, acme_access_token, clock):
    guessing = api("kt-access-guess")
    assert {guessing.get("/v1/api-keys").status_code for _ in range(300)} == {401}
    refused = guessing.get("/v1/api-keys")
    assert (refused.status_code, refused.json()["code"]) == (429, "too_many_attempts")
    assert refused["Retry-After"] == "50"
    assert api(acme_access_token.secret).get("/v1/api-keys").status_code == 200
    assert guessing.get("/v1/api-keys", REMOTE_ADDR="203.0.113.5").status_code == 401
    clock.shift(timedelta(minutes=1))
    assert guessing.get("/v1/api-keys").status_code == 401


def test_guessing_invitations_is_limited(client, db):
    answers = [client.get(f"/invitations/kt-invite-{number}/").status_code for number in range(31)]
    assert answers == [404] * 30 + [429]


def test_neighbours_of_one_ipv6_network_count_together(db):
    limit = rate_limits.Limit("test", 1, 60)
    one, other, far = (
        RequestFactory().get("/", REMOTE_ADDR=address) for address in ("2001:db8::1", "2001:db8::2", "2001:db8:1::1")
    )
    assert rate_limits.is_within(limit, one, NOON)
    assert not rate_limits.is_within(limit, other, NOON)
    assert rate_limits.is_within(limit, far, NOON)
