"""Settings, URLs, Celery and the embedded servers: how the apps are put together. No app imports this package."""

from config.celery import app as celery_app

__all__ = ["celery_app"]
