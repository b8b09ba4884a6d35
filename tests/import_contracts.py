"""An import contract of our own: the layers inside each app, where whatever is not named here is a verb.

import-linter's own layers would have to list every verb; this way a new verb needs no entry. A module may import what
stands on a lower level of its own app or of another (which apps may see each other is another contract). Only verbs,
models and the ground import their equals.
"""

from typing import Any

from grimp import ImportGraph
from importlinter import Contract, ContractCheck, fields, output

WIRING, EDGES, TASKS, VERBS, SUPPORT, MODELS, RATING, GROUND = range(8, 0, -1)
# What a module of this name at the top of an app is. Edges translate and delegate; support knows models, not verbs.
LEVELS = {
    **dict.fromkeys(("urls", "api_urls", "public_urls", "apps", "migrations"), WIRING),
    **dict.fromkeys(("views", "api", "webhooks", "admin", "management"), EDGES),
    **dict.fromkeys(("adapter", "middleware", "context_processors", "templatetags"), EDGES),
    **dict.fromkeys(("tasks",), TASKS),
    **dict.fromkeys(("access", "api_auth", "emails", "forms", "commands", "problems"), SUPPORT),
    **dict.fromkeys(("enqueue", "rate_limits", "audit", "looking_in"), SUPPORT),
    **dict.fromkeys(("models",), MODELS),
    **dict.fromkeys(("rating",), RATING),
    **dict.fromkeys(("money", "periods", "quarter_hours", "tenancy"), GROUND),
    **dict.fromkeys(
        ("public_ids", "credentials", "errors", "prepared", "remembering", "copying", "key_restrictions"), GROUND
    ),
}
MAY_IMPORT_EQUALS = frozenset({WIRING, VERBS, MODELS, GROUND, SUPPORT})


class HouseLayers(Contract):
    """Inside an app, top may import what stands below, never sideways or up."""

    type_name = "house_layers"
    apps = fields.ListField(subfield=fields.StringField())

    def check(self, graph: ImportGraph, verbose: bool) -> ContractCheck:
        broken = [
            {"importer": importer, "imported": imported, "line": detail["line_number"]}
            for importer in sorted(graph.modules)
            for imported in sorted(graph.find_modules_directly_imported_by(importer))
            if self._is_forbidden(importer, imported)
            for detail in graph.get_import_details(importer=importer, imported=imported)
        ]
        return ContractCheck(kept=not broken, metadata={"broken": broken})

    def render_broken_contract(self, check: ContractCheck) -> None:
        broken: list[dict[str, Any]] = check.metadata["broken"]
        for found in broken:
            output.print_error(f"{found['importer']} (line {found['line']}) must not import {found['imported']}")
        output.new_line()

    def _is_forbidden(self, importer: str, imported: str) -> bool:
        one, other = _part(importer), _part(imported)
        if one == other or {one[0], other[0]} - set(self.apps):  # inside one part, or outside our apps
            return False
        higher, lower = level(one[1]), level(other[1])
        return lower > higher or (lower == higher and higher not in MAY_IMPORT_EQUALS)


def _part(module: str) -> tuple[str, str]:
    """("billing", "views") for billing.views.invoices; ("billing", "") for the app itself."""
    app, _, rest = module.partition(".")
    return app, rest.partition(".")[0]


def level(name: str) -> int:
    """The level of a module at the top of an app; an unnamed one is a verb. The empty app module is on the ground."""
    return LEVELS.get(name, VERBS) if name else GROUND
