import os
import signal
import socket
import time
from pathlib import Path

import psycopg
import pytest

from config import embedded


@pytest.fixture
def data(tmp_path):
    yield tmp_path
    embedded.stop_postgres(tmp_path)


def _answers(url: str) -> bool:
    with psycopg.connect(url) as connection:
        return connection.execute("SELECT 1").fetchone() == (1,)


def test_postgres_starts_keeps_its_data_and_stops(data):
    url = embedded.start_postgres(data, unsafe=True)
    assert url == embedded.database_url(data)
    with psycopg.connect(url) as connection:
        connection.execute("CREATE TABLE kept (n int)")
    assert embedded.start_postgres(data, unsafe=True) == url, "a second start attaches"
    embedded.stop_postgres(data)
    assert not embedded.postgres_is_running(data)
    with psycopg.connect(embedded.start_postgres(data, unsafe=True)) as connection:
        assert connection.execute("SELECT count(*) FROM kept").fetchone() == (0,)


def test_postgres_starts_again_after_it_was_killed(data):
    embedded.start_postgres(data, unsafe=True)
    os.kill(int((data / "postgres" / "postmaster.pid").read_text().split()[0]), signal.SIGKILL)
    time.sleep(0.2)
    assert not embedded.postgres_is_running(data)
    assert _answers(embedded.start_postgres(data, unsafe=True))


def test_process_number_of_another_program_is_not_taken_for_the_server(data):
    embedded.start_postgres(data, unsafe=True)
    embedded.stop_postgres(data)
    (data / "postgres" / "postmaster.pid").write_text(f"{os.getpid()}\n{data / 'postgres'}\n")
    assert not embedded.postgres_is_running(data)
    assert _answers(embedded.start_postgres(data, unsafe=True))


def test_server_stays_until_the_last_user_goes(data):
    with embedded.attached_postgres(data) as url:
        with embedded.attached_postgres(data):
            assert _answers(url)
        assert _answers(url), "the first user still needs it"
    assert not embedded.postgres_is_running(data)


def test_long_folder_gets_short_sockets(tmp_path):
    data = tmp_path / ("long-" * 12) / ("longer-" * 10)
    url = embedded.database_url(data)
    sockets = Path(url.split("host=")[1])
    assert len(str(sockets)) < embedded.LONGEST_FOLDER
    assert sockets != Path(embedded.database_url(data / "other").split("host=")[1])
    try:
        assert _answers(embedded.start_postgres(data, unsafe=True))
        assert sockets.stat().st_mode & 0o077 == 0, "nobody else may enter"
    finally:
        embedded.stop_postgres(data)
        embedded.remove_socket_folders(data)
    assert not sockets.exists()


def test_folder_that_is_a_link_is_refused(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "postgres").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(embedded.EmbeddedServerError, match="belongs to another user"):
        embedded._private_folder(tmp_path / "postgres")


def test_valkey_starts_over_the_socket_of_a_killed_one(tmp_path):
    first = embedded.start_valkey(tmp_path)
    first.kill()
    first.wait()
    second = embedded.start_valkey(tmp_path)
    try:
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(embedded.valkey_socket(tmp_path)))
            client.sendall(b"PING\r\n")
            assert client.recv(20) == b"+PONG\r\n"
    finally:
        second.terminate()
        second.wait()
