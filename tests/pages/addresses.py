"""Every address of the product as the resolver knows it, so that a sweep never misses one that was added later."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from django.urls import URLPattern, URLResolver, get_resolver, reverse


@dataclass(frozen=True)
class Route:
    """One pattern: its name with namespace, the names of its parts, and its view."""

    name: str
    pattern: str
    parts: frozenset[str]
    view: Any

    @property
    def is_of_an_organisation(self) -> bool:
        return "slug" in self.parts

    @property
    def is_of_the_api(self) -> bool:
        return hasattr(self.view, "cls")

    def address(self, world: Any) -> str:
        """Filled with what the world has for it; a route nobody knows how to fill fails the test."""
        values = world.filled.get(self.name, {})
        missing = self.parts - values.keys() - {"slug"}
        assert not missing, (
            f"{self.name} is new: say in portal_world.py which thing of the organisation fills {sorted(missing)}"
        )
        slug = {"slug": world.organisation.slug} if self.is_of_an_organisation else {}
        query = values.get("?", "")
        return reverse(self.name, kwargs={**slug, **{part: values[part] for part in self.parts - {"slug"}}}) + query


def routes_of_an_organisation() -> list[Route]:
    return [route for route in all_routes() if route.is_of_an_organisation]


def routes_of_the_api() -> list[Route]:
    return [route for route in all_routes() if route.is_of_the_api]


def all_routes() -> list[Route]:
    return list(_walk(get_resolver().url_patterns, "", "", frozenset()))


def _walk(
    patterns: list[URLPattern | URLResolver], namespace: str, before: str, parts: frozenset[str]
) -> Iterator[Route]:
    for pattern in patterns:
        text = before + str(pattern.pattern)
        known = parts | pattern.pattern.converters.keys()
        if isinstance(pattern, URLResolver):
            inner = f"{namespace}{pattern.namespace}:" if pattern.namespace else namespace
            yield from _walk(pattern.url_patterns, inner, text, known)
        else:
            yield Route(f"{namespace}{pattern.name}", text, known, pattern.callback)
