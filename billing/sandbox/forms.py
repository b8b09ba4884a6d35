"""Reading form bodies and query strings the way Stripe does: every parameter, at any depth, is checked.

`nest` turns bracketed names into nested groups; `FormReader` turns text into typed values by a schema of Stripe's
document and lists every way in which the request breaks it.
"""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from billing.sandbox.document import Document, Schema
from billing.sandbox.errors import StripeError

MOST_METADATA_KEYS = 50
LONGEST_METADATA_KEY = 40
LONGEST_METADATA_VALUE = 500


@dataclass(frozen=True, slots=True)
class Problem:
    """One way in which a request breaks the document."""

    param: str
    code: str
    message: str


def nest(pairs: Iterable[tuple[str, str]]) -> dict[str, Any]:
    """Pairs such as ("lines[0][amount]", "5") as nested groups; lists stay groups with index keys."""
    root: dict[str, Any] = {}
    for key, value in pairs:
        *groups, last = re.findall(r"[^\[\]]+|(?<=\[)(?=\])", key) or [key]
        node = root
        for name in groups:
            node = node.setdefault(name or str(len(node)), {})
            if not isinstance(node, dict):
                raise StripeError(400, f"Invalid parameters: {key} is both a value and a group", param=key)
        node[last or str(len(node))] = value
    return root


class FormReader:
    """Reads one request. What it finds wrong is in `problems`; the value read is only good when there are none."""

    def __init__(self, document: Document) -> None:
        self.document = document
        self.problems: list[Problem] = []

    def read(self, schema: Schema, raw: Any, param: str = "") -> Any:
        """The typed value of `raw`, which is text or a group of `nest`."""
        schema = self.document.resolve(schema)
        if "anyOf" in schema:
            return self._read_any(schema["anyOf"], raw, param)
        kind = schema.get("type", "object" if "properties" in schema else "string")
        if kind == "object":
            return self._read_object(schema, raw, param)
        if kind == "array":
            return self._read_array(schema, raw, param)
        if isinstance(raw, dict):
            return self._refuse(param, "parameter_invalid_string", f"Invalid {kind}: {param}")
        if kind == "string":
            return self._read_string(schema, raw, param)
        pattern, convert = PLAIN_KINDS[kind]
        if not re.fullmatch(pattern, raw):
            return self._refuse(param, f"parameter_invalid_{kind}", f"Invalid {kind}: {raw}")
        return convert(raw)

    def _refuse(self, param: str, code: str, message: str) -> Any:
        """Note a problem. What is read instead is nothing."""
        self.problems.append(Problem(param, code, message))
        return None

    def _read_any(self, options: list[Schema], raw: Any, param: str) -> Any:
        attempts = []
        for option in options:
            attempt = FormReader(self.document)
            value = attempt.read(option, raw, param)
            if not attempt.problems:
                return value
            attempts.append(attempt.problems)
        # Blame the option that the caller most likely meant: the one that was got furthest into.
        self.problems.extend(max(attempts, key=lambda found: max(len(problem.param) for problem in found)))
        return None

    def _read_object(self, schema: Schema, raw: Any, param: str) -> Any:
        if not isinstance(raw, dict):
            return self._refuse(param, "parameter_invalid_object", f"Invalid object: {param}")
        known, extra = schema.get("properties", {}), schema.get("additionalProperties")
        value = {}
        for name, part in raw.items():
            at = f"{param}[{name}]" if param else name
            expected = known.get(name) or (extra if isinstance(extra, dict) and extra else None)
            if expected is None:
                self._refuse(at, "parameter_unknown", f"Received unknown parameter: {at}")
            else:
                value[name] = self.read(expected, part, at)
        for name in schema.get("required", []):
            if name not in raw:
                at = f"{param}[{name}]" if param else name
                self._refuse(at, "parameter_missing", f"Missing required param: {at}.")
        if param.rpartition("[")[2].rstrip("]") == "metadata":
            self._check_metadata(raw, param)
        return value

    def _check_metadata(self, raw: dict[str, Any], param: str) -> None:
        if len(raw) > MOST_METADATA_KEYS:
            self._refuse(param, "parameter_invalid_metadata", f"Metadata has at most {MOST_METADATA_KEYS} keys.")
        for name, value in raw.items():
            if len(name) > LONGEST_METADATA_KEY or len(str(value)) > LONGEST_METADATA_VALUE:
                self._refuse(
                    f"{param}[{name}]",
                    "parameter_invalid_metadata",
                    f"Metadata keys have at most {LONGEST_METADATA_KEY} characters, values {LONGEST_METADATA_VALUE}.",
                )

    def _read_array(self, schema: Schema, raw: Any, param: str) -> Any:
        if not isinstance(raw, dict) or set(raw) != {str(i) for i in range(len(raw))}:
            return self._refuse(param, "parameter_invalid_array", f"Invalid array: {param}")
        return [self.read(schema["items"], raw[str(i)], f"{param}[{i}]") for i in range(len(raw))]

    def _read_string(self, schema: Schema, raw: str, param: str) -> str | None:
        if "enum" in schema and raw not in schema["enum"]:
            allowed = ", ".join(schema["enum"])
            return self._refuse(param, "parameter_invalid_enum", f"Invalid {param}: must be one of {allowed}")
        if raw == "" and "enum" not in schema:
            return self._refuse(param, "parameter_invalid_empty", f"You passed an empty string for '{param}'.")
        if len(raw) > schema.get("maxLength", len(raw)):
            longest = schema["maxLength"]
            return self._refuse(param, "parameter_invalid_length", f"{param} has at most {longest} characters")
        pattern, hint = TEXT_FORMATS.get(schema.get("format", ""), (".*", ""))
        if not re.fullmatch(pattern, raw, re.DOTALL):
            return self._refuse(param, f"parameter_invalid_{schema['format']}", f"Invalid {param}: {raw}; {hint}")
        return raw


PLAIN_KINDS: dict[str, tuple[str, Callable[[str], Any]]] = {
    "integer": (r"-?\d{1,18}", int),
    "boolean": ("true|false", lambda raw: raw == "true"),
    "number": (r"-?\d+(\.\d+)?", float),
}
TEXT_FORMATS = {
    "decimal": (r"-?\d+(\.\d{1,12})?", "plain digits, at most 12 decimal places"),
    "currency": ("[a-z]{3}", "three lowercase letters"),
}
