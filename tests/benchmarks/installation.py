"""A whole copy in a temporary folder: PostgreSQL that syncs, the broker, web, worker and beat, as `up` starts them.

The process that asks for it becomes a Django process of that copy, so import nothing of ours before.
"""

import os
import shutil
import socket
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from config import embedded, programs
from config.processes import Child, stop_together

SECONDS_TO_START = 60


@dataclass(frozen=True)
class Installation:
    """Where it listens and the process ids that its trees begin with."""

    data: Path
    port: int
    web: int
    worker: int

    @property
    def postgres(self) -> int:
        """Another after each start anew."""
        return int((self.data / "postgres" / "postmaster.pid").read_text().split()[0])


@contextmanager
def running(data: Path, port: int) -> Iterator[Installation]:
    """Started and migrated; stopped and deleted at the end."""
    data.mkdir(parents=True)
    environment = {
        **os.environ,
        "KILOTOKEN_DATA": str(data),
        "DATABASE_URL": embedded.start_postgres(data),
        "CELERY_BROKER_URL": embedded.broker_url(data),
        "DJANGO_SETTINGS_MODULE": "config.settings",
        "LOG_LEVEL": "ERROR",
        "AUTOMATIC_CLOSING": "no",
    }
    os.environ.update(environment)
    broker = embedded.start_valkey(data)
    children: list[Child] = []
    try:
        _migrate(data)
        commands = {
            "web": programs.web_command(port),
            "worker": programs.worker_command(),
            "beat": programs.beat_command(data),
        }
        for name, command in commands.items():
            children.append(Child(name, command, environment, data / f"{name}.log"))
            children[-1].start()
        _wait_for(port, children[0])
        pids = {child.name: child.process.pid for child in children if child.process}
        yield Installation(data, port, pids["web"], pids["worker"])
    finally:
        stop_together(children)
        broker.terminate()
        broker.wait()
        embedded.stop_postgres(data)
        embedded.remove_socket_folders(data)
        shutil.rmtree(data)


def _migrate(data: Path) -> None:
    import django
    from django.core.management import call_command

    django.setup()
    call_command("migrate", verbosity=0)
    (data / "staticfiles").mkdir()


def _wait_for(port: int, web: Child) -> None:
    deadline = time.monotonic() + SECONDS_TO_START
    while time.monotonic() < deadline and web.exit_code is None:
        with closing(socket.socket()) as probe:
            if probe.connect_ex((programs.HOST, port)) == 0:
                return
        time.sleep(0.1)
    raise SystemExit(web.last_words)
