"""Checking values against the schemas of Stripe's document: our own answers, and JSON request bodies."""

from collections.abc import Iterator
from typing import Any

from billing.sandbox.document import Document, Schema

KINDS: dict[str, type | tuple[type, ...]] = {
    "object": dict,
    "array": list,
    "string": str,
    "boolean": bool,
    "integer": int,
    "number": (int, float),
}


def faults_in(document: Document, schema: Schema, value: Any, where: str = "$") -> Iterator[str]:
    """Every way in which a value breaks a schema, as sentences that say where."""
    may_be_null = schema.get("nullable")
    schema = document.resolve(schema)
    if value is None:
        if not (may_be_null or schema.get("nullable")):
            yield f"{where}: null is not allowed"
        return
    if "anyOf" in schema:
        yield from _faults_in_nearest(document, schema["anyOf"], value, where)
        return
    if "enum" in schema and value not in schema["enum"] and not schema.get("x-stripeBypassValidation"):
        yield f"{where}: {value!r} is not in the enum"
    kind = schema.get("type")
    if kind in KINDS and not _is_of(kind, value):
        yield f"{where}: {type(value).__name__} instead of {kind}"
        return
    if isinstance(value, str) and len(value) > schema.get("maxLength", len(value)):
        yield f"{where}: longer than {schema['maxLength']}"
    if isinstance(value, list) and kind == "array":
        for index, part in enumerate(value):
            yield from faults_in(document, schema["items"], part, f"{where}[{index}]")
    if isinstance(value, dict):
        yield from _faults_in_object(document, schema, value, where)


def _is_of(kind: str, value: Any) -> bool:
    return isinstance(value, KINDS[kind]) and isinstance(value, bool) == (kind == "boolean")


def _faults_in_nearest(document: Document, options: list[Schema], value: Any, where: str) -> list[str]:
    nearest: list[str] | None = None
    for option in options:
        faults = list(faults_in(document, option, value, where))
        if not faults:
            return []
        if nearest is None or len(faults) < len(nearest):
            nearest = faults
    return nearest or []


def _faults_in_object(document: Document, schema: Schema, value: dict[str, Any], where: str) -> Iterator[str]:
    known, extra = schema.get("properties", {}), schema.get("additionalProperties")
    for name in schema.get("required", []):
        if name not in value:
            yield f"{where}.{name}: missing"
    for name, part in value.items():
        if name in known:
            yield from faults_in(document, known[name], part, f"{where}.{name}")
        elif isinstance(extra, dict):
            yield from faults_in(document, extra, part, f"{where}.{name}")
        elif known:
            yield f"{where}.{name}: not in the document"
