"""The admin's first page: the cockpit."""

from typing import Any

from django.http import HttpRequest

from billing.cockpit import cockpit


def dashboard(request: HttpRequest, context: dict[str, Any]) -> dict[str, Any]:
    """Called by the admin's theme for its index page; see UNFOLD in the settings."""
    return {**context, "title": "Cockpit", "cockpit": cockpit()}
