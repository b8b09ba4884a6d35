"""A web process of our own on the tests' database, that can be killed and started again at the same address."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from types import TracebackType
from typing import Self

import requests
from django.db import connection
from psycopg.conninfo import conninfo_to_dict, make_conninfo

START_SECONDS = 60


def nginx() -> str | None:
    """Debian: apt-get install nginx-light."""
    return shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin")


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def wait_for_port(port: int, process: subprocess.Popen[bytes], seconds: float = START_SECONDS) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and process.poll() is None:
        with socket.socket() as attempt:
            if attempt.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    raise AssertionError(f"Nothing listens on port {port}.")


class WebProcess:
    def __init__(self, *hosts: str) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        parts = conninfo_to_dict(os.environ["DATABASE_URL"]) | {"dbname": connection.settings_dict["NAME"]}
        self._environment = os.environ | {"DATABASE_URL": make_conninfo(**parts), "DATABASE_POOL_SIZE": "4"}
        if hosts:
            self._environment["ALLOWED_HOSTS"] = " ".join(hosts)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()

    def start(self) -> None:
        """Answers when this returns."""
        command = [sys.executable, "-m", "granian", "--interface", "wsgi", "--port", str(self.port)]
        command += ["--workers", "1", "--blocking-threads", "4", "--no-ws", "--log-level", "warning"]
        self._process = subprocess.Popen(
            [*command, "config.wsgi:application"], env=self._environment, start_new_session=True
        )
        wait_for_port(self.port, self._process)
        requests.get(self.url + "/v1/", timeout=START_SECONDS)

    def kill(self) -> None:
        """With no chance to end anything, its workers too."""
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
