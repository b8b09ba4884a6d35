"""The Celery application object and what its processes do first."""

import os

from celery import Celery
from celery.signals import worker_process_init

from config.garbage import spare_what_is_loaded

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")

app = Celery("kilotoken")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()


def _begin_work(**_: object) -> None:
    spare_what_is_loaded()


worker_process_init.connect(_begin_work)
