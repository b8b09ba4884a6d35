"""Lines out of a stream of bytes, in bounded memory however long the stream or a line is. Imports nothing of ours."""

from collections.abc import Iterable, Iterator


def lines(chunks: Iterable[bytes], longest: int) -> Iterator[bytes]:
    """The lines that are not blank, without their ends; one longer than `longest` comes cut to `longest` + 1 bytes."""
    kept = bytearray()
    for chunk in chunks:
        *ended, rest = chunk.split(b"\n")
        for part in ended:
            _extend(kept, part, longest)
            if line := kept.strip():
                yield bytes(line)
            kept.clear()
        _extend(kept, rest, longest)
    if line := kept.strip():
        yield bytes(line)


def _extend(kept: bytearray, part: bytes, longest: int) -> None:
    kept += part[: max(0, longest + 1 - len(kept))]
