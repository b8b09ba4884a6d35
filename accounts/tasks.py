"""The alarm clock of accounts: each task is a sweep, safe to run twice at once."""

from importlib import import_module

from celery import shared_task
from django.conf import settings


@shared_task
def clear_expired_sessions() -> None:
    """Sign-ins that ended by themselves leave their row behind; this removes them."""
    import_module(settings.SESSION_ENGINE).SessionStore.clear_expired()
