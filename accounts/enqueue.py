"""Sends a task once the transaction commits, as a hint that there is work.

The row is the queue: a lost message makes work late, never wrong, since a sweep finds the row. So nothing here raises,
and a broker that does not answer costs a request two seconds at most, then nothing for a while.
"""

import logging
import time
from typing import Any, Protocol

from django.db import transaction
from kombu.exceptions import OperationalError

logger = logging.getLogger(__name__)

# After a failure no message is tried for this long in this process; the sweeps run meanwhile.
PAUSE_SECONDS = 5.0


class Task(Protocol):
    """What is needed of a Celery task."""

    name: str

    def apply_async(self, args: tuple[Any, ...], **options: Any) -> Any: ...


class _Broker:
    """When this process may try the broker again, on the monotonic clock."""

    paused_until = 0.0


def enqueue_on_commit(task: Task, *args: Any) -> None:
    """Send `task` with `args` after the surrounding transaction, or now without one. Never raises for the broker."""
    transaction.on_commit(lambda: _publish(task, args))


def _publish(task: Task, args: tuple[Any, ...]) -> None:
    if time.monotonic() < _Broker.paused_until:
        return
    try:
        task.apply_async(args, retry=False)
    except (OperationalError, OSError) as error:
        _Broker.paused_until = time.monotonic() + PAUSE_SECONDS
        logger.warning("The broker did not take %s; a sweep will find the row: %s", task.name, error)
