"""Errors of the REST API as application/problem+json (RFC 9457): type, title, status, detail, a stable code, extras.

No secret and no internals are ever part of one. What no rule foresees is left to Django's outermost boundary.
"""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, JsonResponse
from rest_framework import exceptions
from rest_framework.response import Response
from rest_framework.settings import api_settings

from accounts.errors import DomainError

CONTENT_TYPE = "application/problem+json"


class Problem(exceptions.APIException):
    """A refusal with a status, a stable code and a sentence; `extra` adds members of its own."""

    def __init__(self, status: int, code: str, detail: str, **extra: Any) -> None:
        super().__init__(detail, code)
        self.status_code = status
        self.code = code
        self.extra = extra


def body(status: int, code: str, detail: str, **extra: Any) -> dict[str, Any]:
    """The members of a problem, in a fixed order."""
    title = HTTPStatus(status).phrase
    return {"type": "about:blank", "title": title, "status": status, "detail": detail, "code": code, **extra}


def exception_handler(error: Exception, context: Mapping[str, Any]) -> Response | None:
    """DRF's hook: every expected exception as a problem; None (so a 500 elsewhere) for anything else."""
    described = _describe(error)
    if described is None:
        return None
    status, problem = described
    response = Response(problem, status=status, content_type=CONTENT_TYPE)
    if header := getattr(error, "auth_header", None):
        response["WWW-Authenticate"] = header
    if wait := getattr(error, "wait", None):
        response["Retry-After"] = str(int(wait))
    return response


def problem_response(status: int, code: str, detail: str) -> JsonResponse:
    """A problem outside of DRF: unknown addresses and failures under /v1/."""
    return JsonResponse(body(status, code, detail), status=status, content_type=CONTENT_TYPE)


def is_api(request: HttpRequest) -> bool:
    """Whether whoever asks speaks JSON rather than HTML."""
    return request.path.startswith(("/v1/", "/api/v1/"))


def _describe(error: Exception) -> tuple[int, dict[str, Any]] | None:
    match error:
        case Problem():
            return error.status_code, body(error.status_code, error.code, str(error.detail), **error.extra)
        case DomainError():
            return error.status, body(error.status, error.code, error.sentence)
        case Http404():
            return 404, body(404, "not_found", "There is nothing at this address.")
        case PermissionDenied():
            return 403, body(403, "permission_denied", "You may not do that.")
        case exceptions.ValidationError():
            sentence = "Some fields are missing or wrong; `errors` names them."
            return 400, body(400, "invalid_request", sentence, errors=_field_errors(error.detail))
        case exceptions.ParseError():
            return 400, body(400, "malformed_json", "The body is not valid JSON.")
        case exceptions.NotFound():
            return 404, body(404, "not_found", "There is nothing at this address.")
        case exceptions.APIException():
            code = error.get_codes()
            return error.status_code, body(
                error.status_code, code if isinstance(code, str) else "refused", str(error.detail)
            )
    return None


def _field_errors(detail: Any) -> list[dict[str, str]]:
    """DRF's nested errors as a flat list: which field, a stable code, a sentence."""
    errors: list[dict[str, str]] = []

    def collect(path: str, part: Any) -> None:
        if isinstance(part, Mapping):
            for name, inner in part.items():
                here = "" if name == api_settings.NON_FIELD_ERRORS_KEY else str(name)
                collect(f"{path}.{here}".strip("."), inner)
        elif isinstance(part, list):
            for number, inner in enumerate(part):
                collect(path if isinstance(inner, str) else f"{path}.{number}".strip("."), inner)
        else:
            errors.append({"field": path, "code": getattr(part, "code", "invalid"), "detail": str(part)})

    collect("", detail)
    return errors
