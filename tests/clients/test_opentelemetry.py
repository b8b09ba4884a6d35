"""OpenTelemetry's OTLP exporter, fed by two instrumentations of OpenAI's client."""

import pytest
from openai import OpenAI
from openinference.instrumentation.openai import OpenAIInstrumentor as OpenInference
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.instrumentation.genai.openai import OpenAIInstrumentor as GenAI
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

from metering.models import Event, RejectedEvent
from tests.clients.fake_openai import SECRET, used

pytestmark = pytest.mark.django_db(transaction=True)
PROMPT = [{"role": "user", "content": SECRET}]


@pytest.fixture
def provider(live_server, service_token, acme_key, monkeypatch):
    """Set up by the environment, as an operator would."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", live_server.url + "/v1/otlp")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", f"Authorization=Bearer {service_token.secret}")
    resource = Resource.create({"service.name": "assistant", "kilotoken.api_key_hash": acme_key.digest})
    provider = TracerProvider(resource=resource)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(compression=Compression.Gzip)))
    yield provider
    provider.shutdown()


@pytest.fixture(params=[GenAI, OpenInference], ids=["genai", "openinference"])
def client(request, provider, upstream):
    instrumentor = request.param()
    instrumentor.instrument(tracer_provider=provider)
    with OpenAI(base_url=upstream.url, api_key="upstream", max_retries=0) as client:
        yield client
    instrumentor.uninstrument()


def test_totals_are_what_was_used(client, provider, acme, totals):
    for _ in range(4):
        client.chat.completions.create(model="gpt-5-mini", messages=PROMPT)
    with_usage = {"stream": True, "stream_options": {"include_usage": True}}
    assert list(client.chat.completions.create(model="gpt-5-mini", messages=PROMPT, **with_usage))
    with provider.get_tracer("app").start_as_current_span("GET /"):
        client.chat.completions.create(model="gpt-5-mini", messages=PROMPT)
    assert provider.force_flush()
    found = totals(acme)
    # Not every instrumentation tells of reasoning or caching; what is told is exact, and no token is lost.
    assert found["requests"] == 6
    assert found["input_tokens"] + found.get("cache_read_tokens", 0) == 120 * 6
    assert found["output_tokens"] == 30 * 6
    assert not RejectedEvent.objects.exists()
    assert set(Event.objects.values_list("source", "data__model")) == {("otlp:assistant", "gpt-5-mini")}
    assert SECRET not in str(list(Event.objects.values()))


def test_a_stream_without_usage_is_unmetered(client, provider, acme, totals):
    client.chat.completions.create(model="gpt-5-mini", messages=PROMPT)
    assert list(client.chat.completions.create(model="gpt-5-mini", messages=PROMPT, stream=True))
    assert provider.force_flush()
    found = totals(acme)
    assert found["requests"] == used(1, requests=2)["requests"]
    assert found["output_tokens"] == 30
    assert Event.objects.filter(data__metering="unmetered").count() == 1


def test_a_failed_call_feeds_no_meter(client, provider, acme, totals):
    with pytest.raises(Exception, match="out of order"):
        client.chat.completions.create(model="flaky", messages=PROMPT)
    assert provider.force_flush()
    assert totals(acme) == {}
    assert Event.objects.get().type == "ai.failure"
