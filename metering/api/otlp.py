"""POST /v1/otlp/v1/traces: the target of OpenTelemetry's trace exporters.

An exporter told `OTEL_EXPORTER_OTLP_ENDPOINT=…/v1/otlp` adds the rest. It drops what is refused, so only bodies that
cannot be decoded are; single spans that cannot be kept as usage are counted in partial_success.
"""

from collections.abc import Iterable, Iterator

from django.conf import settings
from django.http import HttpResponse
from drf_spectacular.utils import extend_schema
from rest_framework.request import Request

from accounts.api_keys import resolve_subjects
from accounts.models import Organisation, ServiceToken
from accounts.problems import Problem
from metering.api import otlp_schema
from metering.api.bodies import read_whole
from metering.api.taking import Reply, WayIn, take
from metering.drafts import Draft, Refusal, body_of
from metering.formats import gen_ai, otlp
from metering.models.events import RejectionReason


class TracesView(WayIn):
    @extend_schema(**otlp_schema.POST)
    def post(self, request: Request) -> HttpResponse:
        media_type = (request.content_type or "").partition(";")[0].strip().lower()
        if media_type not in (otlp.PROTOBUF, otlp.JSON):
            raise Problem(415, "unsupported_media_type", f"Send {otlp.PROTOBUF} or {otlp.JSON}.")
        body = read_whole(request._request, settings.JSON_BODY_MAX_BYTES)
        try:
            reply = _take(request, list(otlp.decode(body, media_type, gen_ai.KNOWN)))
        except otlp.Undecodable as error:
            raise Problem(400, error.code, error.sentence) from error
        rejected = reply.rejected + reply.conflicts
        return HttpResponse(otlp.encode_reply(rejected, _message(reply), media_type), content_type=media_type)


def _take(request: Request, spans: list[otlp.Span | Refusal]) -> Reply:
    token = request.user.token  # type: ignore[union-attr]
    if isinstance(token, ServiceToken):
        return take(gen_ai.drafts(spans), format="otlp", service_token_id=token.pk)
    organisation = request.user.organisation  # type: ignore[union-attr]
    drafts = gen_ai.drafts(spans, own=organisation.public_id)
    return take(_confined(list(drafts), organisation), format="otlp", service_token_id=None)


def _confined(drafts: Iterable[Draft | Refusal], organisation: Organisation) -> Iterator[Draft | Refusal]:
    """What an organisation sends is its own: to it, the keys of others do not exist."""
    drafts = list(drafts)
    subjects = resolve_subjects({draft.subject for draft in drafts if isinstance(draft, Draft)})
    for draft in drafts:
        if isinstance(draft, Refusal):
            yield draft
            continue
        subject = subjects.get(draft.subject)
        if subject is not None and subject.organisation_id == organisation.pk:
            yield draft
        else:
            detail = "Your organisation has no API key of that name or digest."
            yield Refusal(RejectionReason.UNKNOWN_SUBJECT, detail, body_of(draft), draft.source, draft.event_id)


def _message(reply: Reply) -> str:
    """What was wrong, each kind once, for the exporter's log."""
    details = dict.fromkeys(verdict.detail for verdict in reply.events if verdict.detail)
    return " ".join(list(details)[:5])[:1000]
