"""Reading the bodies of the REST API: JSON that can be kept, by a serializer, and nothing beside what it names.

A member that nobody reads is a misspelt one: a credit whose `expire_at` is passed over would never expire.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rest_framework import serializers
from rest_framework.exceptions import ParseError
from rest_framework.parsers import JSONParser
from rest_framework.request import Request

from accounts.problems import Problem

# Read by `api_auth.resolve_organisation`, whatever else a body holds.
ALWAYS_READ = frozenset({"organisation"})


class StorableJsonParser(JSONParser):
    """JSON without what PostgreSQL cannot keep: NUL, and halves of characters."""

    parse_float: Callable[[str], Any] = float

    def parse(self, stream: Any, media_type: str | None = None, parser_context: Any = None) -> Any:
        raw = stream.read()
        try:
            data = json.loads(raw.decode(), parse_float=self.parse_float, parse_constant=_refuse_constant)
        except (ValueError, RecursionError) as error:
            raise ParseError(f"JSON parse error - {error}") from error
        # Only an escape can say either; a NUL as it is, or a surrogate in UTF-8, is no JSON.
        if b"\\u" in raw and not _is_storable(data):
            detail = "The body holds the character NUL, or half of a character. Leave it out."
            raise Problem(400, "unstorable_text", detail)
        return data


def validated(serializer: type[serializers.Serializer], request: Request) -> dict[str, Any]:
    """The request's body as the serializer reads it; what it cannot read or does not know is a problem that names the
    fields."""
    filled = serializer(data=request.data)
    unread = _unread(filled, request.data, ALWAYS_READ)
    if filled.is_valid() and not unread:
        return dict(filled.validated_data)
    errors = filled.errors
    raise serializers.ValidationError({**unread, **errors} if isinstance(errors, Mapping) else errors)


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _is_storable(data: Any) -> bool:
    level: list[Any] = [data]
    while level:
        texts = [one for one in level if isinstance(one, str)]
        if any("\x00" in text or (not text.isprintable() and _has_surrogate(text)) for text in texts):
            return False
        dicts = [one for one in level if isinstance(one, dict)]
        inside = [part for one in dicts for pair in one.items() for part in pair]
        level = inside + [part for one in level if isinstance(one, list) for part in one]
    return True


def _has_surrogate(text: str) -> bool:
    return any("\ud800" <= character <= "\udfff" for character in text)


def _unread(
    serializer: serializers.Serializer, given: Any, besides: frozenset[str] = frozenset(), path: str = ""
) -> dict[str, list[serializers.ErrorDetail]]:
    """The members that no field reads, by their path, with what is wrong about them."""
    if not isinstance(given, Mapping):
        return {}
    known = serializer.fields
    sentence = "There is no such field. Known: " + ", ".join(known) + "." if known else "There is no such field."
    errors = [serializers.ErrorDetail(sentence, "unknown_field")]
    found = {f"{path}{name}": list(errors) for name in given if name not in known and name not in besides}
    for name in set(known) & set(given):
        for inner, part, place in _parts(known[name], given[name], f"{path}{name}."):
            found |= _unread(inner, part, path=place)
    return found


def _parts(field: Any, given: Any, path: str) -> list[tuple[serializers.Serializer, Any, str]]:
    """What a field reads with a serializer of its own, and where that stands."""
    if isinstance(field, serializers.Serializer):
        return [(field, given, path)]
    child = getattr(field, "child", None)
    if isinstance(child, serializers.Serializer) and isinstance(given, Sequence) and not isinstance(given, str):
        return [(child, part, f"{path}{number}.") for number, part in enumerate(given)]
    return []
