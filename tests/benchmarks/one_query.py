"""A Django that does next to nothing: no middleware, no apps, one view, one look-up. What admission is compared with.

Settings and addresses at once, for a server of its own with the same interpreter, threads and database.
"""

from django.db import connection
from django.http import HttpRequest, HttpResponse
from django.urls import path

from config.settings import *  # noqa: F403

ROOT_URLCONF = __name__
INSTALLED_APPS: list[str] = []
MIDDLEWARE: list[str] = []
ALLOWED_HOSTS = ["*"]


def one_query(request: HttpRequest) -> HttpResponse:
    with connection.cursor() as cursor:
        cursor.execute("SELECT name FROM accounts_organisation WHERE id = %s", [request.GET["organisation"]])
        [name] = cursor.fetchone() or [""]
    body = name.encode()
    return HttpResponse(body, content_type="text/plain", headers={"Content-Length": len(body)})


urlpatterns = [path("one-query", one_query)]
