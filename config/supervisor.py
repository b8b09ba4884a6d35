"""`./kilotoken up`: the whole product on one machine, for development and demo.

Starts PostgreSQL and Valkey (unless DATABASE_URL and CELERY_BROKER_URL name others), migrates, collects static files,
starts the Stripe sandbox (unless Stripe is configured), makes the demo world in an empty database, starts web, worker
and beat; then looks after them until it is told to stop. Everything it starts ends with it, also when it is killed.
"""

import contextlib
import http
import http.client
import os
import signal
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType

import psycopg

from config import embedded, programs
from config.console import Steps, complain, echo, paint, say, welcome
from config.instance import DEFAULT_PORT, AlreadyRunning, Instance, ProcessMark, Run, is_set, wants_sandbox
from config.processes import MOST_RESTARTS, RESTART_WINDOW_SECONDS, Child, stop_together
from config.programs import HOST
from config.reset import end_leftovers

SECONDS_TO_GET_READY = 90
SECONDS_BETWEEN_LOOKS = 0.3
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Stopped(Exception):
    """Someone asked us to stop: Ctrl-C, or a signal."""


class StartFailed(Exception):
    """Something did not come up or stay up; the text says what, and how its log ends."""


def up(instance: Instance, *, port: int | None, with_demo: bool) -> int:
    """Run a copy until it is stopped; the exit code. A copy that runs already is shown instead."""
    if os.environ.get("KILOTOKEN_ENVIRONMENT") == "production":
        complain("up is for development and demo. compose.yaml shows which programs a deployment runs.")
        return 2
    try:
        with instance.claimed():
            return _run(instance, port=port or DEFAULT_PORT, with_demo=with_demo)
    except AlreadyRunning:
        return _show_running(instance, port)


def _show_running(instance: Instance, port: int | None) -> int:
    run = instance.wait_until_ready(SECONDS_TO_GET_READY)
    if run is None:
        complain(f"Another ./kilotoken is using {instance.data} and has not become ready.")
        return 1
    if port not in {None, run.port}:
        complain(
            f"This copy is running already, at {run.address} (process {run.supervisor.pid}).\n"
            f"Stop it first, or run a second copy beside it: ./kilotoken up --port {port} --data DIR"
        )
        return 1
    welcome(instance, run, heading=f"Kilotoken is running already (process {run.supervisor.pid}):")
    return 0


def _run(instance: Instance, *, port: int, with_demo: bool) -> int:
    if is_taken(port):
        complain(f"Port {port} is taken by another program. Try: ./kilotoken up --port {_free_port_after(port)}")
        return 1
    for number in STOP_SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN or number == signal.SIGINT:  # nohup ignores SIGHUP
            signal.signal(number, _raise_stopped)
    try:
        Supervisor(instance, port=port).run(with_demo=with_demo)
    except StartFailed as error:
        complain(str(error))
        return 1
    except Stopped:
        say(f"  Stopped. The data stay in {instance.data}.")
    return 0


class Supervisor:
    """The processes of one copy, from the first server to the last log line."""

    def __init__(self, instance: Instance, *, port: int) -> None:
        self.instance = instance
        self.steps = Steps()
        self.children: list[Child] = []
        mark = ProcessMark.of(os.getpid())
        if mark is None:
            raise StartFailed("This system has no /proc: ./kilotoken up needs Linux.")
        address = os.environ.get("SITE_URL", "").rstrip("/") or f"http://{HOST}:{port}"
        self.state = Run(supervisor=mark, port=port, address=address)
        self.has_own_database = not is_set(os.environ, "DATABASE_URL")

    def run(self, *, with_demo: bool) -> None:
        """Start everything and look after it; ends with Stopped or StartFailed, after all has stopped."""
        with self._servers():
            sandbox = self._start_sandbox() if wants_sandbox(os.environ) else None
            self._finish("prepare", programs.prepare_command())
            self.steps.done("Tables and static files")
            if sandbox:
                self._wait_for_sandbox(sandbox)
            web = self._spawn("web", programs.web_command(self.state.port))
            if with_demo:
                self._make_demo_world()
            self._spawn("worker", programs.worker_command())
            self._spawn("beat", programs.beat_command(self.instance.data))
            self._wait_for(web, self._web_answers)
            self._tell_ready()
            self._look_after()

    # --- Starting -----------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _servers(self) -> Iterator[None]:
        """Database and broker for as long as the block lasts; at its end all children stop, then the database."""
        left = end_leftovers(self.instance)
        if left:
            self.steps.note(f"Ended what a killed copy had left behind: {', '.join(left)}")
        with contextlib.ExitStack() as stack:
            stack.callback(self.instance.run_file.unlink, missing_ok=True)
            self.instance.write_run(self.state)
            if self.has_own_database:
                stack.enter_context(embedded.attached_postgres(self.instance.data))
            stack.callback(self._stop_children)
            if not is_set(os.environ, "CELERY_BROKER_URL"):
                broker = self._spawn("broker", embedded.valkey_command(self.instance.data))
                self._wait_for(broker, embedded.valkey_socket(self.instance.data).exists)
            self.steps.done("Database and broker")
            yield

    def _start_sandbox(self) -> Child:
        """The sandbox keeps its port from start to start, so that pages that are open in a browser stay good."""
        folder = self.instance.data / "stripe"
        folder.mkdir(mode=0o700, exist_ok=True)
        kept = _port_in(folder / "port")
        (folder / "port").unlink(missing_ok=True)
        return self._spawn("stripe", self._sandbox_command(0 if is_taken(kept) else kept))

    def _wait_for_sandbox(self, sandbox: Child) -> None:
        port_file = self.instance.data / "stripe" / "port"
        self._wait_for(sandbox, lambda: _port_in(port_file) > 0)
        port = _port_in(port_file)
        sandbox.command = self._sandbox_command(port)  # where it is when it has to be started again
        self.state.stripe_api_base = f"http://{HOST}:{port}"
        self.instance.write_run(self.state)
        self.steps.done("Stripe sandbox")

    def _sandbox_command(self, port: int) -> list[str]:
        return programs.sandbox_command(
            self.instance.data / "stripe",
            port=port,
            address=self.state.address,
            webhook=f"http://{HOST}:{self.state.port}/stripe/webhook/",
            secret=self.instance.secrets()["STRIPE_WEBHOOK_SECRET"],
        )

    def _make_demo_world(self) -> None:
        """In an empty database, or where the last attempt was interrupted: the command completes what is there."""
        unfinished = self.instance.data / "demo.unfinished"
        if unfinished.exists() or self._database_is_empty():
            unfinished.touch()
            self._finish("demo", programs.demo_command(), only_errors=True)  # its progress
            unfinished.unlink()
            self.steps.done("Demo world")

    def _database_is_empty(self) -> bool:
        url = os.environ.get("DATABASE_URL") or embedded.database_url(self.instance.data)
        with psycopg.connect(url) as connection:
            return connection.execute("SELECT 1 FROM accounts_organisation LIMIT 1").fetchone() is None

    def _web_answers(self) -> bool:
        connection = http.client.HTTPConnection(HOST, self.state.port, timeout=20)
        try:
            connection.request("GET", "/")
            status = connection.getresponse().status
        except OSError:
            return False
        finally:
            connection.close()
        if status >= http.HTTPStatus.INTERNAL_SERVER_ERROR:
            raise StartFailed(f"The front page answers with error {status}. See {self.instance.logs / 'web.log'}")
        return True

    def _tell_ready(self) -> None:
        self.state.is_ready = True
        self.instance.write_run(self.state)
        self.steps.done("Web, worker and beat")
        welcome(self.instance, self.state, heading=f"Kilotoken is ready after {self.steps.seconds:.0f} s:")
        say(f"  {paint('Ctrl-C stops it.', 'dim')}\n")
        for child in self.children:
            child.skip_lines()  # greetings

    # --- Looking after ------------------------------------------------------------------------------------------------

    def _look_after(self) -> None:
        """Show what the programs say and start again what dies, until someone asks to stop."""
        while True:
            for child in self.children:
                echo(child.name, child.new_lines())
                if child.exit_code is not None:
                    self._start_again(child)
            if self.has_own_database and not embedded.postgres_is_running(self.instance.data):
                self.steps.note("The database had ended: starting it again")
                embedded.start_postgres(self.instance.data)
            time.sleep(SECONDS_BETWEEN_LOOKS)

    def _start_again(self, child: Child) -> None:
        if child.dies_too_often:
            raise StartFailed(
                f"{child.name} ended {len(child.starts)} times within {RESTART_WINDOW_SECONDS} seconds, so everything"
                f" stops. {child.last_words}"
            )
        count = f"{len(child.starts)} of {MOST_RESTARTS}"
        self.steps.note(f"{child.name} has ended (exit code {child.exit_code}): starting it again ({count})")
        child.start_again()
        self._note_processes()

    def _stop_children(self) -> None:
        """First the programs that use the database, the broker and the sandbox, then those."""
        for number in STOP_SIGNALS:
            signal.signal(number, self._kill_children)
        users = [child for child in self.children if child.name in {"web", "worker", "beat"}]
        if users:
            say(f"\n  {paint('Stopping (Ctrl-C once more: at once)', 'dim')}")
        stop_together(users)
        stop_together([child for child in self.children if child not in users])

    def _kill_children(self, _number: int, _frame: FrameType | None) -> None:
        for child in self.children:
            if child.process:
                child.process.kill()

    # --- Single processes ---------------------------------------------------------------------------------------------

    def _spawn(self, name: str, command: list[str], *, only_errors: bool = False) -> Child:
        environment = self.instance.environment(
            {**os.environ, "PYTHONUNBUFFERED": "1"},
            address=self.state.address,
            stripe_api_base=self.state.stripe_api_base,
        )
        child = Child(name, command, environment, self.instance.logs / f"{name}.log", only_errors=only_errors)
        self.children.append(child)
        child.start()
        self._note_processes()
        return child

    def _finish(self, name: str, command: list[str], *, only_errors: bool = False) -> None:
        """Run a program to its end, showing what it says; StartFailed when it fails."""
        child = self._spawn(name, command, only_errors=only_errors)
        while child.exit_code is None:
            echo(name, child.new_lines())
            time.sleep(0.05)
        self.children.remove(child)
        if child.exit_code:
            raise StartFailed(f"{name} failed. {child.last_words}")
        echo(name, child.new_lines())

    def _wait_for(self, child: Child, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + SECONDS_TO_GET_READY
        while not condition():
            if child.exit_code is not None or time.monotonic() > deadline:
                raise StartFailed(f"{child.name} did not come up. {child.last_words}")
            time.sleep(0.05)

    def _note_processes(self) -> None:
        self.state.processes = {child.name: child.mark for child in self.children if child.mark}
        self.instance.write_run(self.state)


def is_taken(port: int) -> bool:
    """True if a program listens there, or if we may not (a port below 1024)."""
    with contextlib.closing(socket.socket()) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return True
    return False


def _free_port_after(port: int) -> int:
    return next(candidate for candidate in range(max(port, 1023) + 1, 65536) if not is_taken(candidate))


def _port_in(file: Path) -> int:
    """The port that a file tells, or 0."""
    with contextlib.suppress(OSError, ValueError):
        return int(file.read_text())
    return 0


def _raise_stopped(_number: int, _frame: FrameType | None) -> None:
    raise Stopped
