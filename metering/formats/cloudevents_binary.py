"""CloudEvents 1.0 in binary mode: the attributes are `ce-…` headers, the body is the data.

https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/bindings/http-protocol-binding.md#31-binary-content-mode.
The event is put together in its JSON form and judged like any other; header values are percent-encoded UTF-8.
"""

from collections.abc import Mapping
from urllib.parse import unquote

import msgspec

from metering.drafts import Draft, Refusal
from metering.formats.cloudevents import decode_event

MARK = "ce-specversion"
_ATTRIBUTES = ("specversion", "id", "source", "type", "subject", "time")


def decode_request(headers: Mapping[str, str], body: bytes) -> Draft | Refusal:
    """The one event of a request; `headers` finds names in any case, as Django's do."""
    members: dict[str, str | msgspec.Raw] = {
        name: unquote(value, errors="replace") for name in _ATTRIBUTES if (value := headers.get(f"ce-{name}"))
    }
    if content_type := headers.get("Content-Type"):
        members["datacontenttype"] = content_type
    if body.strip():
        members["data"] = _json(body)
    return decode_event(msgspec.json.encode(members))


def _json(body: bytes) -> msgspec.Raw | str:
    """The body as it is if it is one JSON value; else as a text, which no event may have as its data."""
    try:
        return msgspec.json.decode(body, type=msgspec.Raw)
    except (ValueError, RecursionError):
        return body.decode(errors="replace")
