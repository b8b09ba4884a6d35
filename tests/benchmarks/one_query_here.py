"""The view of `one_query` as a page of this project would be served: with its apps and its middleware."""

from django.urls import path

from config.settings import *  # noqa: F403
from tests.benchmarks.one_query import one_query

ROOT_URLCONF = __name__
ALLOWED_HOSTS = ["*"]

urlpatterns = [path("one-query", one_query)]
