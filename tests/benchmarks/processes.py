"""CPU time and memory of process trees, from /proc. Nothing here knows what the processes do."""

import os
from collections.abc import Iterator
from pathlib import Path

_TICK = 1 / os.sysconf("SC_CLK_TCK")


def cpu_seconds(root: int) -> float:
    """User and system time of a process, of all below it, and of those below it that have ended."""
    return sum(sum(map(int, fields[11:15])) for fields in _stats(root).values()) * _TICK


def resident_bytes(root: int) -> int:
    """Memory that a process and all below it hold now; pages they share count for each."""
    return sum(int(fields[21]) for fields in _stats(root).values()) * os.sysconf("SC_PAGE_SIZE")


def _stats(root: int) -> dict[int, list[str]]:
    """The fields of /proc/<pid>/stat after the name, for a process and everything below it."""
    stats = dict(_all_stats())
    tree, level = {}, [root]
    while level:
        tree |= {pid: stats[pid] for pid in level if pid in stats}
        level = [pid for pid, fields in stats.items() if int(fields[1]) in level]
    return tree


def _all_stats() -> Iterator[tuple[int, list[str]]]:
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            text = (folder / "stat").read_text()
        except OSError:
            continue
        yield int(folder.name), text.rpartition(")")[2].split()
