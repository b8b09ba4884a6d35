"""Requests that carry CloudEvents, in whichever of their forms the headers name."""

from collections.abc import Iterator

from django.conf import settings
from rest_framework.request import Request

from accounts.problems import Problem
from metering.api.bodies import read_chunks, read_whole
from metering.drafts import EVENT_MAX_BYTES, Draft, Refusal
from metering.formats import cloudevents, cloudevents_binary, ndjson


def drafts_of(request: Request) -> Iterator[Draft | Refusal]:
    """The events of a request; Problem if its body is none that carries events."""
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
