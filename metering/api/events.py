"""POST /v1/events: usage in, a verdict per event out, after the commit; GET: what became of one event.

Senders lose what is refused, so the answer is 200 for everything that could be kept, and never 429.
"""

from functools import partial

from django.http import HttpResponse
from drf_spectacular.utils import extend_schema
from rest_framework.authentication import BaseAuthentication
from rest_framework.request import Request

from accounts.api_auth import RememberedTokenAuthentication, TokenAuthentication, confirm_token
from accounts.problems import Problem
from metering import event_lookup_schema
from metering.api import events_schema
from metering.api.cloudevent_bodies import drafts_of
from metering.api.taking import WayIn, service_token_of, take, verdicts_response
from metering.event_requests import facts_asked_for, facts_response


class EventsView(WayIn):
    @extend_schema(**events_schema.POST)
    def post(self, request: Request) -> HttpResponse:
        token = service_token_of(request)
        confirm = partial(confirm_token, request)
        reply = take(drafts_of(request), format="cloudevents", service_token_id=token.pk, confirm=confirm)
        return verdicts_response(reply)

    def get_authenticators(self) -> list[BaseAuthentication]:
        """Gateways send events one by one."""
        is_sending = self.request is not None and self.request.method == "POST"
        return [RememberedTokenAuthentication() if is_sending else TokenAuthentication()]

    @extend_schema(**event_lookup_schema.GET)
    def get(self, request: Request) -> HttpResponse:
        source, event_id = request.query_params.get("source"), request.query_params.get("id")
        if not source or not event_id:
            raise Problem(400, "event_required", "Name the event: add source=… and id=… as they were sent.")
        return facts_response(facts_asked_for(request, [(source, event_id)]))
