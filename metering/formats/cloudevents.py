"""CloudEvents 1.0 in JSON: one event, an array of them, or one per line (NDJSON).

https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/formats/json-format.md. Every event is decoded by itself,
so that a malformed one never spoils its neighbours: it becomes a refusal that says what to change. Extension
attributes are let through and not kept.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from json import JSONDecoder
from typing import Annotated, Any, Literal

import msgspec

from accounts.errors import DomainError
from metering.drafts import EVENT_MAX_BYTES, Draft, Refusal
from metering.exact_json import NotStorable, check_storable, decode_object
from metering.models.events import RejectionReason

JSON_TYPES = frozenset({"application/cloudevents+json", "application/cloudevents-batch+json", "application/json"})
NDJSON_TYPES = frozenset({"application/x-ndjson", "application/ndjson", "application/jsonl", "application/x-jsonlines"})

_Text = Annotated[str, msgspec.Meta(min_length=1, max_length=255)]
_Instant = Annotated[datetime, msgspec.Meta(tz=True)]
_NO_DATA = b"{}"
_JSON_CONTENT = re.compile(r"\s*(application|text)/([\w.+-]+\+)?json\s*(;.*)?", re.IGNORECASE | re.ASCII)


class NotJson(DomainError):
    code = "malformed_json"
    sentence = "The body is not JSON, so nothing was kept. Send a CloudEvent, an array of them, or NDJSON."


class _Envelope(msgspec.Struct, gc=False):
    specversion: Literal["1.0"]
    id: _Text
    source: _Text
    type: _Text
    subject: _Text
    time: _Instant | None = None
    datacontenttype: str | None = None
    data: msgspec.Raw = msgspec.Raw(_NO_DATA)
    data_base64: Any = None


_decode_envelope = msgspec.json.Decoder(_Envelope).decode
_decode_array = msgspec.json.Decoder(list[msgspec.Raw]).decode
_decode_anything = msgspec.json.Decoder(msgspec.Raw).decode


def decode_body(body: bytes) -> list[Draft | Refusal]:
    """The events of a JSON body, a single one or an array; NotJson if it is neither.

    An array whose elements are not all valid JSON is still taken apart, as far as its brackets can be told.
    """
    body = body.removeprefix(b"\xef\xbb\xbf").strip()
    try:
        if not body.startswith(b"["):
            return [decode_event(_decode_anything(body))]
        elements: Sequence[bytes | msgspec.Raw] = _decode_array(body)
    except (ValueError, RecursionError):
        elements = list(_loose_elements(body))
    return [decode_event(element) for element in elements]


def decode_event(raw: bytes | msgspec.Raw) -> Draft | Refusal:
    """One event, as it arrived or a view of it."""
    if len(raw) > EVENT_MAX_BYTES:
        limit = EVENT_MAX_BYTES // 1024
        detail = f"It is larger than the {limit} KiB an event may have. Send what is metered, not the content."
        return _refuse(raw, detail, RejectionReason.TOO_LARGE)
    try:
        return _draft(_decode_envelope(raw), raw)
    except msgspec.ValidationError as error:
        return _refuse(raw, _explain(str(error)))
    except NotStorable as error:
        return _refuse(raw, f"Its `data` {error}.")
    except _Inadmissible as error:
        return _refuse(raw, str(error))
    except RecursionError:
        return _refuse(raw, "It is nested too deeply.")
    except ValueError as error:
        return _refuse(raw, f"It is not valid JSON ({error}). Numbers must be finite, text UTF-8.")


class _Inadmissible(Exception):
    """A well-formed envelope that is refused; the text is for the sender."""


def _draft(envelope: _Envelope, raw: bytes | msgspec.Raw) -> Draft:
    if envelope.data_base64 is not None:
        raise _Inadmissible("It carries `data_base64`. Send `data` as a JSON object.")
    if envelope.datacontenttype and not _JSON_CONTENT.fullmatch(envelope.datacontenttype):
        raise _Inadmissible(
            f"Its datacontenttype is {envelope.datacontenttype[:80]!r}. Send JSON, or leave datacontenttype out."
        )
    raw_data = bytes(envelope.data)
    if raw_data == b"null":
        raw_data = _NO_DATA
    data = decode_object(raw_data)
    check_storable(raw_data, data)
    names = (envelope.source, envelope.id, envelope.type, envelope.subject)
    if "\0" in envelope.id or "\0" in envelope.source or "\0" in envelope.type or "\0" in envelope.subject:
        raise _Inadmissible("Its id, source, type or subject holds the character NUL (\\u0000): leave it out.")
    return Draft(*names, envelope.time, raw_data, data, raw)


# --- Refusing ---------------------------------------------------------------------------------------------------------

_FIELD = re.compile(r"`(?:\$\.)?(specversion|id|source|type|subject|time|datacontenttype|data)`")
_ADVICE = {
    "specversion": 'Send "specversion": "1.0".',
    "id": "Send an id of 1 to 255 characters that is unique within the source.",
    "source": "Send the name of the sending system, 1 to 255 characters.",
    "type": 'Send the type that a meter reads, such as "ai.usage".',
    "subject": "Send the API key's id (key_…), the key's SHA-256, or the organisation's id (org_…).",
    "time": 'Send RFC 3339 with a zone, such as "2026-11-15T12:00:00Z", or leave it out.',
    "datacontenttype": 'Send "application/json", or leave it out.',
    "data": "Send a JSON object.",
}
_LENIENT = JSONDecoder(parse_float=str, parse_int=str)


def _explain(message: str) -> str:
    field = _FIELD.search(message)
    return f"It is not a CloudEvent: {message}. {_ADVICE[field[1]] if field else 'Send a JSON object.'}"


def _refuse(raw: bytes | msgspec.Raw, detail: str, reason: RejectionReason = RejectionReason.INVALID_EVENT) -> Refusal:
    body = bytes(raw)
    names = _names(body)
    return Refusal(reason, detail, body, names("source"), names("id"))


def _names(raw: bytes) -> Callable[[str], str]:
    """Reads source and id of an event that is malformed elsewhere; empty where they cannot be read."""
    try:
        members: Any = _LENIENT.decode(raw.decode(errors="replace"))
    except (ValueError, RecursionError):
        members = None

    def name(member: str) -> str:
        value = members.get(member) if isinstance(members, dict) else None
        return value[:255].encode("utf-8", "replace").decode() if isinstance(value, str) else ""

    return name


def _loose_elements(body: bytes) -> Iterator[bytes]:
    """The elements of a body that a strict decoder refuses, for NaN, half surrogates and the like in one of them."""
    text = body.decode("utf-8", "surrogateescape")
    position, is_array = (1, True) if text.startswith("[") else (0, False)
    try:
        while True:
            position = _skip(text, position, " \t\r\n")
            if is_array and text[position : position + 1] == "]":
                position += 1
                break
            end = _LENIENT.raw_decode(text, position)[1]
            yield text[position:end].encode("utf-8", "surrogateescape")
            position = _skip(text, end, " \t\r\n")
            if not is_array:
                break
            if text[position : position + 1] not in (",", "]"):
                raise NotJson
            position += text[position] == ","
    except (ValueError, RecursionError) as error:
        raise NotJson from error
    if text[position:].strip():
        raise NotJson


def _skip(text: str, position: int, characters: str) -> int:
    while text[position : position + 1] and text[position] in characters:
        position += 1
    return position
