"""The server of `one_query`."""

import os

from django.core.wsgi import get_wsgi_application

os.environ["DJANGO_SETTINGS_MODULE"] = "tests.benchmarks.one_query"
application = get_wsgi_application()
