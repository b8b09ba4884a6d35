"""The alarm clock of accounts: each task is a sweep, safe to run twice at once."""

from datetime import timedelta
from importlib import import_module

from celery import shared_task
from django.conf import settings
from django.utils import timezone

from accounts import notices, rate_limits


@shared_task
def clear_expired_sessions() -> None:
    """Sign-ins that ended by themselves leave their row behind, counted attempts too; this removes them."""
    import_module(settings.SESSION_ENGINE).SessionStore.clear_expired()
    rate_limits.forget_attempts(timezone.now())


@shared_task
def send_notices() -> None:
    notices.send_due(now=timezone.now())


@shared_task
def forget_notices() -> None:
    """Drop e-mails about acts that went out long ago."""
    notices.forget_before(timezone.now() - timedelta(days=settings.NOTICES_KEPT_DAYS))
