"""Which lines of bills an event feeds, by itself and beside what became of the event."""

from django.http import HttpResponse
from django.utils import timezone
from drf_spectacular.utils import OpenApiParameter, OpenApiResponse, extend_schema
from rest_framework import serializers
from rest_framework.generics import GenericAPIView
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from accounts.api_auth import caller_of, resolve_organisation
from accounts.models import Scope
from accounts.problems import Problem
from billing.api.parts import ORGANISATION, REFUSALS
from billing.event_lines import lines_of_event
from metering.event_lookup import look_up_event
from metering.event_lookup_schema import get_by_path
from metering.event_requests import facts_asked_for, facts_response, names_in_path, organisation_asked_about

_LINE = {
    "meter": "input_tokens",
    "model": "gpt-5-mini",
    "invoice": None,
    "kind": "usage",
    "description": "gpt-5-mini, input tokens",
    "period_start": "2026-11-01T00:00:00Z",
    "period_end": "2026-12-01T00:00:00Z",
}
_LINES = {
    "type": "array",
    "nullable": True,
    "description": "Of the first invoice that counted it, or of the running bill (`invoice` null). Null: the token "
    "lacks the scope billing:read. Empty: nothing of it is charged.",
    "items": {
        "type": "object",
        "required": list(_LINE),
        "properties": {name: {"type": "string", "nullable": name == "invoice"} for name in _LINE},
    },
}


class EventLineOutput(serializers.Serializer):
    meter = serializers.CharField()
    model = serializers.CharField()
    invoice = serializers.CharField(allow_null=True, help_text="Number of the invoice; null: the running bill.")
    kind = serializers.CharField(help_text="`usage`, or `adjustment` where it came after its period was invoiced.")
    description = serializers.CharField()
    period_start = serializers.DateTimeField()
    period_end = serializers.DateTimeField()


class EventLines(GenericAPIView):
    required_scopes = Scope.BILLING_READ
    serializer_class = EventLineOutput
    pagination_class = None

    @extend_schema(
        operation_id="list_event_lines",
        summary="Which lines of a bill an event feeds",
        description="A line per meter that the event feeds and that is charged for, of the first invoice that counted "
        "it or of the running bill. Empty: it was corrected, nothing reads it, or the plan does not charge it.",
        tags=["Billing"],
        parameters=[
            ORGANISATION,
            OpenApiParameter("source", str, required=True, description="The event's source, as it was sent."),
            OpenApiParameter("id", str, required=True, description="The event's id, as it was sent."),
        ],
        responses={200: OpenApiResponse(EventLineOutput(many=True), "The lines"), **REFUSALS},
    )
    def get(self, request: Request) -> Response:
        organisation = resolve_organisation(request)
        source, event_id = (request.query_params.get(name, "").replace("\x00", "") for name in ("source", "id"))
        facts = look_up_event(organisation, source=source, event_id=event_id) if source and event_id else None
        if facts is None or facts.acceptance is None:
            raise Problem(404, "unknown_event", "No event of that name was accepted.")
        return Response(EventLineOutput(lines_of_event(organisation, facts.acceptance, timezone.now()), many=True).data)


class EventByPath(APIView):
    """What became of an event, and the lines of bills that it feeds."""

    # Any of several scopes will do; see `event_requests`.
    required_scopes: dict[str, Scope] = {}

    @extend_schema(**get_by_path(_LINES, _LINE))
    def get(self, request: Request, name: str) -> HttpResponse:
        facts = facts_asked_for(request, names_in_path(name))
        if Scope.BILLING_READ not in caller_of(request).scopes:
            return facts_response(facts, bill_lines=None)
        organisation, event = organisation_asked_about(request), facts.acceptance
        found = [] if event is None else lines_of_event(organisation, event, timezone.now())
        return facts_response(facts, bill_lines=EventLineOutput(found, many=True).data)
