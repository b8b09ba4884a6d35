"""Messages are hints: without a broker nothing fails, nothing waits long, and the row stays for the sweep."""

import time

import pytest
from celery import Celery
from django.conf import settings
from django.db import transaction

from accounts import enqueue
from accounts.enqueue import enqueue_on_commit


def sweep(number: int = 0) -> None:
    """Stands for a task."""


@pytest.fixture(autouse=True)
def _broker_untried(monkeypatch):
    monkeypatch.setattr(enqueue._Broker, "paused_until", 0.0)


@pytest.fixture
def app():
    def make(url: str) -> Celery:
        app = Celery("test", broker=url, set_as_current=False)
        app.conf.broker_transport_options = settings.CELERY_BROKER_TRANSPORT_OPTIONS
        app.conf.task_publish_retry = settings.CELERY_TASK_PUBLISH_RETRY
        return app

    return make


@pytest.mark.parametrize("url", ["redis+socket:///nowhere/valkey.sock", "redis://127.0.0.1:1/0"])
def test_unreachable_broker_costs_little_and_raises_nothing(app, url, caplog, django_capture_on_commit_callbacks, db):
    task = app(url).task(sweep)
    began = time.monotonic()
    with django_capture_on_commit_callbacks(execute=True):
        enqueue_on_commit(task)
    assert time.monotonic() - began < 3
    assert "a sweep will find the row" in caplog.text

    began = time.monotonic()
    with django_capture_on_commit_callbacks(execute=True):
        enqueue_on_commit(task)
    assert time.monotonic() - began < 0.1  # not tried again for a while


def test_message_goes_out_after_the_commit_only(app, django_capture_on_commit_callbacks, db):
    memory = app("memory://")
    task = memory.task(sweep)
    with django_capture_on_commit_callbacks(execute=True) as callbacks:
        enqueue_on_commit(task, 7)
        assert _waiting(memory) == 0
    assert len(callbacks) == 1
    assert _waiting(memory) == 1


@pytest.mark.django_db(transaction=True)
def test_rolled_back_act_sends_nothing(app):
    memory = app("memory://")
    task = memory.task(sweep)
    with transaction.atomic():
        enqueue_on_commit(task)
        transaction.set_rollback(True)
    assert _waiting(memory) == 0


def _waiting(app: Celery) -> int:
    """How many messages wait; takes them away, since the memory broker belongs to the process."""
    return app.control.purge()
