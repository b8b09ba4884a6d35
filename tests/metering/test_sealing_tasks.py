import logging

import pytest

from metering import tasks
from metering.models import Seal
from tests.metering.sealed_world import receive, unguarded

pytestmark = pytest.mark.django_db


def test_the_task_seals_what_is_over(acme):
    receive(acme, 10, 1)
    receive(acme, 11, 2)
    tasks.seal_finished_days()
    tasks.seal_finished_days()
    assert Seal.objects.count() == 2


def test_what_cannot_be_sealed_is_logged(acme, caplog):
    receive(acme, 10, 1)
    with unguarded() as cursor:
        cursor.execute("DELETE FROM event")
    with caplog.at_level(logging.ERROR):
        tasks.seal_finished_days()
    assert "A day could not be sealed" in caplog.text
    assert Seal.objects.count() == 0
