"""`./kilotoken manage`: Django's commands against a data folder, whether a copy runs there or not.

Beside a running copy they use its database, broker and Stripe sandbox. Without one, the embedded PostgreSQL is started
for as long as the command takes.
"""

import contextlib
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from types import FrameType

from config import embedded
from config.instance import DEFAULT_PORT, Instance, is_set, wants_sandbox

# Commands that answer without a database.
NEED_NO_DATABASE = frozenset(
    {"help", "version", "check", "collectstatic", "diffsettings", "stripe_sandbox", "spectacular"}
)


def manage(instance: Instance, arguments: Sequence[str]) -> int:
    """Run one of Django's commands in this process; its exit code."""
    run = instance.read_run() if instance.is_running else None
    address = run.address if run else f"http://127.0.0.1:{DEFAULT_PORT}"
    sandbox = run.stripe_api_base if run and wants_sandbox(os.environ) else ""
    os.environ.update(instance.environment(os.environ, address=address, stripe_api_base=sandbox))
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
    signal.signal(signal.SIGTERM, _end)
    with _database(instance, arguments):
        return _execute(arguments)


@contextlib.contextmanager
def _database(instance: Instance, arguments: Sequence[str]) -> Iterator[None]:
    unneeded = not arguments or arguments[0] in NEED_NO_DATABASE or {"--help", "-h"} & set(arguments)
    if unneeded or is_set(os.environ, "DATABASE_URL"):
        yield
        return
    is_new = not embedded.postgres_exists(instance.data)
    with embedded.attached_postgres(instance.data):
        if is_new and arguments[0] != "migrate":
            _execute(["migrate", "--verbosity", "0"])
        try:
            yield
        finally:
            _close_connections()


def _execute(arguments: Sequence[str]) -> int:
    from django.core.management import execute_from_command_line

    try:
        execute_from_command_line(["./kilotoken manage", *arguments])
    except SystemExit as end:
        if isinstance(end.code, str):
            sys.stderr.write(end.code + "\n")
            return 1
        return end.code or 0
    except KeyboardInterrupt:
        return 130
    return 0


def _close_connections() -> None:
    from django.db import connections

    for connection in connections.all(initialized_only=True):
        connection.close()
        connection.close_pool()  # type: ignore[attr-defined]


def _end(_number: int, _frame: FrameType | None) -> None:
    raise SystemExit(143)
