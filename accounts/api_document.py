"""What every operation of the OpenAPI document shares: the ways in which a request can be refused, as problems.

A hook of drf-spectacular's. What an operation says about a status by itself stands; only what is missing is added.
"""

from typing import Any

from accounts.problems import CONTENT_TYPE

PROBLEM = {
    "type": "object",
    "description": "application/problem+json (RFC 9457). Some problems have further members.",
    "required": ["type", "title", "status", "detail", "code"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string", "description": "A sentence for people."},
        "code": {"type": "string", "description": "Stable; compare this one."},
    },
}
REFUSALS = {
    "400": "The request cannot be read, or a parameter is wrong.",
    "401": "No token, or one that is unknown, revoked or expired.",
    "403": "The token lacks the scope.",
    "404": "There is no such thing, or it belongs to another organisation.",
}
BODY_REFUSALS = {
    "415": "Another media type than those named here.",
    "422": "The body can be read, and what it asks for cannot be done.",
}
METHODS = frozenset({"get", "put", "post", "patch", "delete"})


def describe_refusals(result: dict[str, Any], generator: Any, request: Any, public: bool) -> dict[str, Any]:
    """Add to each operation the refusals it does not describe, and to each refusal without a body the problem."""
    result.setdefault("components", {}).setdefault("schemas", {})["Problem"] = PROBLEM
    for methods in result["paths"].values():
        for method, operation in methods.items():
            if method in METHODS:
                refusals = REFUSALS | (BODY_REFUSALS if "requestBody" in operation else {})
                _describe(operation["responses"], refusals)
    return result


def _describe(responses: dict[str, Any], refusals: dict[str, str]) -> None:
    for status, description in refusals.items():
        responses.setdefault(status, {"description": description})
    for status, response in responses.items():
        if status[0] in "45" and not response.get("content"):
            response["content"] = {CONTENT_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}
