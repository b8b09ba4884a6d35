"""The REST API of metering, below /v1/."""

from django.urls import URLPattern, path

from metering.api.events import EventsView
from metering.api.litellm import LiteLLMView

urlpatterns: list[URLPattern] = [
    path("events", EventsView.as_view(), name="events"),
    path("litellm", LiteLLMView.as_view(), name="litellm"),
]
