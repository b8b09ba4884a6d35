"""The memory of the web processes while one NDJSON body of any length streams in."""

import http.client
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass

from tests.benchmarks.bodies import MARKER, numbered, templates
from tests.benchmarks.installation import Installation
from tests.benchmarks.processes import resident_bytes
from tests.benchmarks.sender import HOST
from tests.benchmarks.world import World

LINES = 500
MIB = 2**20


@dataclass(frozen=True)
class Streamed:
    """Of all web processes together, in MiB; `sent` is the size of the one body."""

    sent_mib: float
    seconds: float
    before_mib: float
    peak_mib: float
    after_mib: float


def stream(installation: Installation, world: World, mib: int) -> Streamed:
    before, peak = resident_bytes(installation.web), _Peak(installation.web)
    client = http.client.HTTPConnection(HOST, installation.port, timeout=600)
    headers = {
        "Authorization": f"Bearer {world.token}",
        "Content-Type": "application/x-ndjson",
        "Transfer-Encoding": "chunked",
    }
    sent = [0]
    started = time.perf_counter()
    with peak:
        client.request("POST", "/v1/events", _chunks(world, mib * MIB, sent), headers, encode_chunked=True)
        answer = client.getresponse()
        answer.read()
    assert answer.status == 200
    seconds = time.perf_counter() - started
    after = resident_bytes(installation.web)
    return Streamed(sent[0] / MIB, seconds, before / MIB, peak.bytes / MIB, after / MIB)


def _chunks(world: World, total: int, sent: list[int]) -> Iterator[bytes]:
    lines = b"\n".join(templates(world.subjects, 1, LINES, 1)).replace(MARKER.encode(), MARKER.encode() + b"-0000")
    number = 999 * 10**9
    while sent[0] < total:
        number += 1
        chunk = b"".join(
            numbered(line, number * LINES % 10**12 + place) + b"\n" for place, line in enumerate(lines.split(b"\n"))
        )
        sent[0] += len(chunk)
        yield chunk


class _Peak:
    """Watches a process tree's memory from a thread."""

    def __init__(self, root: int) -> None:
        self.root, self.bytes = root, 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._stop.wait(0.05):
            self.bytes = max(self.bytes, resident_bytes(self.root))
