"""Request bodies as a stream of bytes: of known length or chunked, plain or gzip, in bounded memory."""

import zlib
from collections.abc import Iterator
from typing import Protocol

from django.http import HttpRequest, UnreadablePostError

from accounts.problems import Problem

CHUNK_BYTES = 256 * 1024
# Usage compresses ten to fifty times; what expands more is no usage.
MAX_EXPANSION = 200
_GZIP = 16 + zlib.MAX_WBITS


class _Readable(Protocol):
    def read(self, size: int, /) -> bytes: ...


def read_chunks(request: HttpRequest) -> Iterator[bytes]:
    """The body in pieces, decompressed; Problem if it breaks off or is not what its headers say."""
    encoding = request.META.get("HTTP_CONTENT_ENCODING", "identity").strip().lower()
    if encoding in {"", "identity"}:
        return _received(request)
    if encoding in {"gzip", "x-gzip"}:
        return _expanded(_received(request))
    raise Problem(415, "unsupported_encoding", "Send the body plain or with Content-Encoding: gzip.")


def read_whole(request: HttpRequest, limit: int) -> bytes:
    """The body in one piece; Problem 413 past the limit, without reading on."""
    chunks, length = [], 0
    for chunk in read_chunks(request):
        chunks.append(chunk)
        length += len(chunk)
        if length > limit:
            detail = f"A JSON body may have {limit // 2**20} MiB. Send application/x-ndjson instead: it has no limit."
            raise Problem(413, "body_too_large", detail)
    return b"".join(chunks)


def _received(request: HttpRequest) -> Iterator[bytes]:
    stream, expected = _stream(request)
    received = 0
    try:
        while chunk := stream.read(CHUNK_BYTES):
            received += len(chunk)
            yield chunk
    except (UnreadablePostError, OSError) as error:
        raise _broken_off() from error
    if expected is not None and received < expected:
        raise _broken_off()


def _stream(request: HttpRequest) -> tuple[_Readable, int | None]:
    """Where to read from, and how many bytes there must be if that is known."""
    if "chunked" in request.META.get("HTTP_TRANSFER_ENCODING", "").lower():
        # Django reads no further than Content-Length; the server ends the stream itself.
        return request.META["wsgi.input"], None
    length = request.META.get("CONTENT_LENGTH") or ""
    return request, int(length) if length.isdecimal() else None


def _expanded(chunks: Iterator[bytes]) -> Iterator[bytes]:
    received = produced = 0
    decompressor = zlib.decompressobj(_GZIP)
    try:
        for chunk in chunks:
            received += len(chunk)
            while chunk:
                if decompressor.eof:
                    decompressor = zlib.decompressobj(_GZIP)
                expanded = decompressor.decompress(chunk, CHUNK_BYTES)
                chunk = decompressor.unconsumed_tail or decompressor.unused_data
                produced += len(expanded)
                if produced > CHUNK_BYTES + received * MAX_EXPANSION:
                    raise Problem(413, "expands_too_far", "The gzip body expands further than usage events do.")
                if expanded:
                    yield expanded
    except zlib.error as error:
        raise Problem(400, "malformed_gzip", "The body is not valid gzip.") from error
    if received and not decompressor.eof:
        raise _broken_off()


def _broken_off() -> Problem:
    detail = "The body broke off before its end. Send it again whole: what was kept before is not counted twice."
    return Problem(400, "incomplete_body", detail)
