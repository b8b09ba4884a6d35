"""What answers when no view does: a page for people, a problem for programs under /v1/."""

from datetime import datetime

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views import defaults

from accounts import rate_limits
from accounts.problems import is_api, problem_response


def not_found(request: HttpRequest, exception: Exception) -> HttpResponse:
    if is_api(request):
        return problem_response(404, "not_found", "There is nothing at this address.")
    return defaults.page_not_found(request, exception)


def permission_denied(request: HttpRequest, exception: Exception) -> HttpResponse:
    if is_api(request):
        return problem_response(403, "permission_denied", "You may not do that.")
    return defaults.permission_denied(request, exception)


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponse:
    if is_api(request):
        return problem_response(400, "bad_request", "The request cannot be read.")
    return defaults.bad_request(request, exception)


def server_error(request: HttpRequest) -> HttpResponse:
    if is_api(request):
        return problem_response(500, "server_error", "Something broke on our side; it has been logged. Try again.")
    return defaults.server_error(request)


def too_many_requests(request: HttpRequest, limit: rate_limits.Limit, now: datetime) -> HttpResponse:
    """The page of whoever tried a thing too often."""
    response = render(request, "429.html", status=429)
    response["Retry-After"] = str(rate_limits.wait_of(limit, now))
    return response
