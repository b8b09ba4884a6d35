"""POST /v1/events: usage in, a verdict per event out, after the commit.

Senders lose what is refused, so the answer is 200 for everything that could be kept, and never 429.
"""

from collections.abc import Iterator

from django.conf import settings
from django.http import HttpResponse
from drf_spectacular.utils import extend_schema
from rest_framework.request import Request

from accounts.problems import Problem
from metering.api import events_schema
from metering.api.bodies import read_chunks, read_whole
from metering.api.taking import WayIn, service_token_of, take, verdicts_response
from metering.drafts import EVENT_MAX_BYTES
from metering.formats import cloudevents, cloudevents_binary, ndjson
from metering.intake import Draft, Refusal


class EventsView(WayIn):
    @extend_schema(**events_schema.POST)
    def post(self, request: Request) -> HttpResponse:
        token = service_token_of(request)
        return verdicts_response(take(_drafts(request), format="cloudevents", service_token_id=token.pk))


def _drafts(request: Request) -> Iterator[Draft | Refusal]:
    media_type = (request.content_type or "").partition(";")[0].strip().lower()
    if cloudevents_binary.MARK in request.headers:
        body = read_whole(request._request, settings.JSON_BODY_MAX_BYTES)
        yield cloudevents_binary.decode_request(request.headers, body)
    elif media_type in cloudevents.NDJSON_TYPES:
        chunks = read_chunks(request._request)
        yield from map(cloudevents.decode_event, ndjson.lines(chunks, EVENT_MAX_BYTES))
    elif media_type in cloudevents.JSON_TYPES:
        try:
            yield from cloudevents.decode_body(read_whole(request._request, settings.JSON_BODY_MAX_BYTES))
        except cloudevents.NotJson as error:
            raise Problem(400, error.code, error.sentence) from error
    else:
        raise Problem(
            415,
            "unsupported_media_type",
            "Send application/cloudevents+json, application/cloudevents-batch+json, application/json "
            "or application/x-ndjson.",
        )
