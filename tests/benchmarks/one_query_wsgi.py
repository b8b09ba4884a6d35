"""The servers of `one_query`: `bare`, and `here`, with this project's apps and middleware."""

import os

from django.core.wsgi import get_wsgi_application


def _serve(settings: str) -> object:
    os.environ["DJANGO_SETTINGS_MODULE"] = settings
    return get_wsgi_application()


def __getattr__(name: str) -> object:
    """A process serves one of them; which one is known when it is asked for."""
    settings = {"bare": "tests.benchmarks.one_query", "here": "tests.benchmarks.one_query_here"}
    if name not in settings:
        raise AttributeError(name)
    return _serve(settings[name])
