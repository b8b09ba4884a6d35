"""What requests and responses pass through."""

from collections.abc import Callable
from functools import lru_cache

from django.conf import settings
from django.core.exceptions import BadRequest
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.urls import ResolverMatch, resolve

from accounts.problems import is_api, problem_response


@lru_cache(maxsize=256)
def _resolve(path: str) -> ResolverMatch:
    """The same few addresses are called all the time, and dozens of patterns stand before some of them."""
    return resolve(path)


# JSON shows nothing, runs nothing and is framed by nobody.
API_POLICY = "default-src 'none'; frame-ancestors 'none'"


class ApiShortcut:
    """Leads requests of the REST API straight to their view.

    They carry a token and get JSON: sessions, forms, messages and static files are nothing to them, and the middleware
    for those would take as long as the view. What stands before this one in the settings holds for the API too.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        if not is_api(request):
            return self.get_response(request)
        request.get_host()  # refuses hosts that are not ours
        match = request.resolver_match = _resolve(request.path_info)
        response = match.func(request, *match.args, **match.kwargs)
        if hasattr(response, "render"):
            response = response.render()
        if isinstance(response, HttpResponse):
            response.headers["Content-Length"] = str(len(response.content))
        response.headers["Content-Security-Policy"] = API_POLICY
        return response


class RefuseNul:
    """PostgreSQL's text holds any character but NUL: an address with one names nothing, and no look-up survives it."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        if "\0" not in request.path and "%00" not in request.META.get("QUERY_STRING", ""):
            return self.get_response(request)
        if is_api(request):
            return problem_response(400, "bad_request", "The address holds the character NUL. Leave it out.")
        raise BadRequest("The address holds the character NUL.")


class AdminContentSecurityPolicy:
    """The admin's theme evaluates expressions: relax the policy under /admin/ and nowhere else."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        response = self.get_response(request)
        if request.path.startswith("/admin/"):
            response._csp_config = settings.ADMIN_CSP  # type: ignore[attr-defined]
        return response
