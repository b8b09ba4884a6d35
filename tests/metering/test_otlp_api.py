import gzip
import json
import time

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

from accounts.models import Scope
from metering.models import Event, RejectedEvent
from tests import factories

pytestmark = pytest.mark.django_db
ADDRESS = "/v1/otlp/v1/traces"
PROTOBUF = "application/x-protobuf"


def export(*subjects):
    """A call per subject, in protobuf; an empty one names nobody."""
    request = ExportTraceServiceRequest()
    resource_spans = request.resource_spans.add()
    resource_spans.resource.attributes.add(key="service.name").value.string_value = "assistant"
    spans = resource_spans.scope_spans.add().spans
    for number, subject in enumerate(subjects, start=1):
        span = spans.add(trace_id=bytes([7] * 16), span_id=number.to_bytes(8, "big"), end_time_unix_nano=time.time_ns())
        span.attributes.add(key="gen_ai.operation.name").value.string_value = "chat"
        span.attributes.add(key="gen_ai.usage.input_tokens").value.int_value = 12
        if subject:
            span.attributes.add(key="kilotoken.subject").value.string_value = subject
    return request.SerializeToString()


@pytest.fixture
def send(api, service_token):
    def post(body, content_type=PROTOBUF, secret=service_token.secret, **headers):
        return api(secret).post(ADDRESS, body, content_type=content_type, headers=headers)

    return post


def rejected_spans(response):
    return ExportTraceServiceResponse.FromString(response.content).partial_success.rejected_spans


def test_calls_become_events_and_full_success_is_an_empty_reply(send, acme_key, acme):
    response = send(export(acme_key.api_key.public_id, acme_key.digest))
    assert (response.status_code, response.headers["Content-Type"], response.content) == (200, PROTOBUF, b"")
    assert list(Event.objects.values_list("organisation_id", "source")) == [(acme.pk, "otlp:assistant")] * 2


def test_an_export_sent_again_counts_once(send, acme_key):
    body = export(acme_key.digest)
    send(body)
    assert rejected_spans(send(body)) == 0
    assert Event.objects.count() == 1


def test_spans_that_cannot_be_kept_as_usage_are_partial_success(send, acme_key):
    response = send(export(acme_key.digest, "key_unknown", ""))
    assert response.status_code == 200
    assert rejected_spans(response) == 2
    assert (Event.objects.count(), RejectedEvent.objects.count()) == (1, 2)


def test_json_is_answered_in_json_and_gzip_is_read(send):
    body = gzip.compress(json.dumps({"resourceSpans": []}).encode())
    response = send(body, "application/json", content_encoding="gzip")
    assert (response.status_code, response.headers["Content-Type"]) == (200, "application/json")
    assert response.json() == {}


@pytest.mark.parametrize("content_type", [PROTOBUF, "application/json"])
def test_a_body_that_cannot_be_decoded_is_400(send, content_type):
    response = send(b"hello", content_type)
    assert (response.status_code, response.json()["code"]) == (400, "malformed_otlp")


def test_another_media_type_is_415(send):
    assert send(b"", "text/plain").status_code == 415


def test_a_token_without_the_scope_may_not_send(send, acme_access_token, acme_key):
    assert send(export(acme_key.digest), secret=acme_access_token.secret).status_code == 403
    assert send(export(acme_key.digest), secret="kt-service-unknown").status_code == 401
    assert not Event.objects.exists()


@pytest.fixture
def acme_sender(acme):
    token = factories.access_token(acme)
    token.token.scopes = [Scope.EVENTS_WRITE]
    token.token.save()
    return token


def test_an_organisation_sends_for_itself_and_to_it_no_other_exists(send, acme_sender, acme, acme_key, globex):
    theirs = factories.api_key(globex)
    response = send(export("", acme_key.digest, theirs.digest, globex.public_id), secret=acme_sender.secret)
    assert rejected_spans(response) == 2
    assert set(Event.objects.values_list("organisation_id", "source")) == {(acme.pk, "own:otlp:assistant")}
    assert set(Event.objects.values_list("api_key_id", flat=True)) == {None, acme_key.api_key.pk}
