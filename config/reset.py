"""`./kilotoken stop` and `./kilotoken reset`: end a copy, and delete what it kept.

Only files that a copy makes are deleted: a wrong --data costs nothing.
"""

import os
import shutil
import signal
import time

from config import embedded
from config.console import complain, paint, say
from config.instance import AlreadyRunning, Instance
from config.processes import end_leftover

SECONDS_TO_STOP = 30
# Everything that a copy keeps in its data folder, locks last.
FOLDERS = ("postgres", "valkey", "stripe", "beat", "mailbox", "staticfiles", "logs")
FILES = (
    "staticfiles.sources",
    "run.json",
    "demo.json",
    "demo.unfinished",
    "secrets.json",
    "postgres.lock",
    "postgres.users",
    "up.lock",
)


def stop(instance: Instance) -> int:
    """Stop the copy that runs a data folder, or what a killed one left behind."""
    run = instance.read_run()
    if not instance.is_running:
        left = bool(end_leftovers(instance)) or embedded.postgres_is_running(instance.data)
        embedded.stop_postgres(instance.data)
        say("Stopped what an earlier copy had left behind." if left else "Nothing is running here.")
        return 0
    if run is not None and run.supervisor.is_alive:
        os.kill(run.supervisor.pid, signal.SIGTERM)
    deadline = time.monotonic() + SECONDS_TO_STOP
    while instance.is_running and time.monotonic() < deadline:
        time.sleep(0.1)
    if instance.is_running:
        complain(f"The copy in {instance.data} does not stop.")
        return 1
    say("Stopped.")
    return 0


def reset(instance: Instance, *, confirmed: bool) -> int:
    """Delete the data folder's content after asking; refused while a copy runs."""
    found = [name for name in (*FOLDERS, *FILES) if (instance.data / name).exists()]
    if not found:
        say(f"There is nothing to delete in {instance.data}.")
        return 0
    try:
        with instance.claimed():
            if not confirmed and not _ask(instance):
                complain("Nothing was deleted.")
                return 1
            end_leftovers(instance)
            embedded.stop_postgres(instance.data)
            embedded.remove_socket_folders(instance.data)
            _delete(instance, found)
    except AlreadyRunning:
        complain("This copy is running: stop it first (Ctrl-C, or ./kilotoken stop).")
        return 1
    say(f"Deleted. The next ./kilotoken up starts from nothing in {instance.data}.")
    return 0


def end_leftovers(instance: Instance) -> list[str]:
    """End processes that a killed copy has left behind; their names."""
    run = instance.read_run()
    return [name for name, mark in run.processes.items() if end_leftover(mark)] if run else []


def _ask(instance: Instance) -> bool:
    say(f"This deletes the database, e-mails, logs and secrets in {paint(str(instance.data), 'bold')}.")
    try:
        return input("Type yes to go on: ").strip().lower() == "yes"
    except EOFError:
        return False


def _delete(instance: Instance, names: list[str]) -> None:
    for name in names:
        path = instance.data / name
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
