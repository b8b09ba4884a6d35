"""Reading the bodies of the REST API: by a serializer, and nothing beside what it names.

A member that nobody reads is a misspelt one: a credit whose `expire_at` is passed over would never expire.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from rest_framework import serializers
from rest_framework.request import Request

# Read by `api_auth.resolve_organisation`, whatever else a body holds.
ALWAYS_READ = frozenset({"organisation"})


def validated(serializer: type[serializers.Serializer], request: Request) -> dict[str, Any]:
    """The request's body as the serializer reads it; what it cannot read or does not know is a problem that names the
    fields."""
    filled = serializer(data=request.data)
    unread = _unread(filled, request.data, ALWAYS_READ)
    if filled.is_valid() and not unread:
        return dict(filled.validated_data)
    errors = filled.errors
    raise serializers.ValidationError({**unread, **errors} if isinstance(errors, Mapping) else errors)


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
