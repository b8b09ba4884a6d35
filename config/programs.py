"""The command lines of the programs that make up a running copy."""

import sys
from pathlib import Path

HOST = "127.0.0.1"
WEB_WORKERS = 2
WEB_THREADS = 8
WORKER_PROCESSES = 2
CELERY = (sys.executable, "-W", "ignore:You're running the worker", "-m", "celery", "--quiet", "-A", "config")


def web_command(port: int) -> list[str]:
    options = {
        "--interface": "wsgi",
        "--host": HOST,
        "--port": str(port),
        "--workers": str(WEB_WORKERS),
        "--blocking-threads": str(WEB_THREADS),
        "--workers-kill-timeout": "5",
        "--log-level": "warning",
    }
    words = [word for option in options.items() for word in option]
    return [sys.executable, "-m", "granian", *words, "--respawn-failed-workers", "--no-ws", "config.wsgi:application"]


def worker_command() -> list[str]:
    # Workers need not know of each other: rows, not messages, hold the work.
    options = ["-c", str(WORKER_PROCESSES), "-l", "WARNING", "--without-gossip", "--without-mingle"]
    return [*CELERY, "worker", *options]


def beat_command(data: Path) -> list[str]:
    schedule = data / "beat" / "schedule"
    schedule.parent.mkdir(exist_ok=True)
    return [*CELERY, "beat", "-l", "WARNING", "-s", str(schedule), "--pidfile="]


def prepare_command() -> list[str]:
    return [sys.executable, "-m", "config.prepare"]


def demo_command() -> list[str]:
    return [sys.executable, "manage.py", "create_demo_world"]


def sandbox_command(folder: Path, *, port: int, address: str, webhook: str, secret: str) -> list[str]:
    """The Stripe sandbox; port 0 lets it choose one, which it tells in the port file."""
    command = [sys.executable, "manage.py", "stripe_sandbox", "--port", str(port), "--port-file", str(folder / "port")]
    command += ["--state", str(folder / "state.json"), "--return-url", f"{address}/home/"]
    return [*command, "--webhook", webhook, "--webhook-secret", secret]
