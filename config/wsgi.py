"""The WSGI application that the web server runs."""

import os

from django.core.wsgi import get_wsgi_application
from django.urls import get_resolver

from config.garbage import spare_what_is_loaded

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
# The threads in which Granian runs requests are Rust's and have 2 MiB of stack, unless they are told otherwise before
# the first of them starts. JSON of ten thousand levels overruns that inside msgspec, before Python's own bound on
# recursion is reached, and takes the process along.
os.environ.setdefault("RUST_MIN_STACK", str(16 * 2**20))

application = get_wsgi_application()
# All addresses with their views, which the first request would load.
_ = get_resolver().reverse_dict
spare_what_is_loaded()
