"""POST /v1/events: usage in, a verdict per event out, after the commit; GET: what became of one event.

Senders lose what is refused, so the answer is 200 for everything that could be kept, and never 429.
"""

from django.http import HttpResponse
from drf_spectacular.utils import extend_schema
from rest_framework.request import Request

from metering.api import event_lookup_schema, events_schema
from metering.api.cloudevent_bodies import drafts_of
from metering.api.event_lookup import event_response
from metering.api.taking import WayIn, service_token_of, take, verdicts_response


class EventsView(WayIn):
    @extend_schema(**events_schema.POST)
    def post(self, request: Request) -> HttpResponse:
        token = service_token_of(request)
        return verdicts_response(take(drafts_of(request), format="cloudevents", service_token_id=token.pk))

    @extend_schema(**event_lookup_schema.GET)
    def get(self, request: Request) -> HttpResponse:
        return event_response(request, request.query_params.get("source"), request.query_params.get("id"))


class EventView(WayIn):
    """For sources without a slash."""

    required_scopes = {}

    @extend_schema(**event_lookup_schema.GET_BY_PATH)
    def get(self, request: Request, source: str, event_id: str) -> HttpResponse:
        return event_response(request, source, event_id)
