"""The REST API of metering, below /v1/."""

from django.urls import URLPattern, path

from metering.api.events import EventsView

urlpatterns: list[URLPattern] = [
    path("events", EventsView.as_view(), name="events"),
]
