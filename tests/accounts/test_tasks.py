"""The sweeps of accounts."""

from datetime import timedelta

from django.contrib.sessions.models import Session
from django.utils import timezone

from accounts.models import Attempts
from accounts.tasks import clear_expired_sessions


def test_sessions_that_ended_are_removed_and_others_stay(client_for, olivia, martin):
    client_for(olivia)
    ended = Session.objects.get()
    Session.objects.update(expire_date=timezone.now() - timedelta(seconds=1))
    client_for(martin)
    Attempts.objects.create(key="old", count=3, ends_at=timezone.now() - timedelta(minutes=1))
    Attempts.objects.create(key="new", count=3, ends_at=timezone.now() + timedelta(minutes=1))
    clear_expired_sessions()
    assert [attempts.key for attempts in Attempts.objects.all()] == ["new"]
    assert Session.objects.count() == 1
    assert not Session.objects.filter(pk=ended.pk).exists()
