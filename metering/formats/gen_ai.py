"""Spans with OpenTelemetry's `gen_ai.*` attributes, and those of OpenInference and OpenLLMetry, as usage.

https://github.com/open-telemetry/semantic-conventions-genai. Only spans of a call to a model count, and of nested ones
only the innermost that knows its usage: agents and frameworks repeat their calls' totals on the spans above. Spans are
known by trace and span id. Nesting is seen within one export; across exports the operation's name must tell.
"""

from collections.abc import Iterable, Iterator
from typing import Any

import msgspec

from metering.drafts import Draft, Refusal
from metering.formats import ai_calls
from metering.formats.ai_calls import Call, Unusable
from metering.formats.otlp import Scalar, Span
from metering.formats.token_pools import NotACount, Reported, reported
from metering.models.events import RejectionReason

INFERENCE = frozenset(
    {"chat", "text_completion", "generate_content", "embeddings", "completion", "embedding", "responses", "message"}
    # LiteLLM's names.
    | {"acompletion", "aembedding", "aresponses", "atext_completion", "anthropic_messages", "image_generation"}
    | {"aimage_generation", "transcription", "atranscription", "speech", "aspeech", "rerank", "arerank"}
    # OpenInference's kinds of span.
    | {"llm"}
)
_OPERATION = ("gen_ai.operation.name", "llm.request.type", "openinference.span.kind")
_COUNTS = {
    "input": ("gen_ai.usage.input_tokens", "gen_ai.usage.prompt_tokens", "llm.token_count.prompt"),
    "output": ("gen_ai.usage.output_tokens", "gen_ai.usage.completion_tokens", "llm.token_count.completion"),
    "cache_read": (
        "gen_ai.usage.cache_read.input_tokens",
        "gen_ai.usage.cache_read_input_tokens",
        "gen_ai.usage.cache_read_tokens",
        "gen_ai.usage.input_cached_tokens",
        "llm.token_count.prompt_details.cache_read",
    ),
    "cache_write": (
        "gen_ai.usage.cache_write.input_tokens",
        "gen_ai.usage.cache_creation.input_tokens",
        "gen_ai.usage.cache_creation_input_tokens",
        "llm.token_count.prompt_details.cache_write",
    ),
    "reasoning": (
        "gen_ai.usage.reasoning.output_tokens",
        "gen_ai.usage.reasoning_tokens",
        "llm.token_count.completion_details.reasoning",
    ),
    "audio_input": ("gen_ai.usage.audio.input_tokens", "llm.token_count.prompt_details.audio"),
    "audio_output": ("gen_ai.usage.audio.output_tokens", "llm.token_count.completion_details.audio"),
    "audio_cache_read": ("gen_ai.usage.audio.cache_read.input_tokens",),
    "image_input": ("gen_ai.usage.image.input_tokens",),
    "image_output": ("gen_ai.usage.image.output_tokens",),
    "image_cache_read": ("gen_ai.usage.image.cache_read.input_tokens",),
}
_RESPONSE_MODEL = ("gen_ai.response.model", "llm.response.model", "llm.model_name")
_REQUEST_MODEL = ("gen_ai.request.model", "llm.request.model")
_FACTS = {
    "provider": ("gen_ai.provider.name", "gen_ai.system", "llm.provider", "llm.system"),
    "service_tier": ("openai.response.service_tier", "gen_ai.openai.response.service_tier"),
    "end_user": ("gen_ai.user", "llm.user", "user.id"),
    "response_id": ("gen_ai.response.id",),
}
_COST = ("gen_ai.cost.total_cost", "llm.cost.total")
_SERVICE = "service.name"
_SUBJECT = "kilotoken.subject"
_KEY_HASHES = ("kilotoken.api_key_hash", "metadata.user_api_key_hash")
KNOWN = frozenset(
    {*_OPERATION, *_RESPONSE_MODEL, *_REQUEST_MODEL, *_COST, _SERVICE, _SUBJECT, *_KEY_HASHES}
    | {name for names in (*_COUNTS.values(), *_FACTS.values()) for name in names}
)
_encode = msgspec.json.Encoder(decimal_format="number").encode


def drafts(spans: Iterable[Span | Refusal], *, own: str = "") -> Iterator[Draft | Refusal]:
    """An event per call to a model; spans of anything else are passed over.

    `own` is the organisation that sends for itself: it stands in where a span names nobody, and its events have a
    source of their own, so that they can never take the place of what the operator's gateways report.
    """
    spans = list(spans)
    yield from (span for span in spans if isinstance(span, Refusal))
    for span in _calls([span for span in spans if isinstance(span, Span)]):
        yield _draft(span, own)


def _calls(spans: list[Span]) -> list[Span]:
    """The spans that stand for a call: innermost with usage; without usage only where none around it has any."""
    metered = [span for span in spans if _has_usage(span) and _operation(span) not in _NOT_CALLS]
    silent = [span for span in spans if not _has_usage(span) and _is_inference(span)]
    around_metered = {(span.trace_id, span.parent_id) for span in metered if _is_inference(span)}
    around_calls = around_metered | {(span.trace_id, span.parent_id) for span in silent}
    metered_calls = {(span.trace_id, span.span_id) for span in metered if _is_inference(span)}
    kept = [span for span in metered if (span.trace_id, span.span_id) not in around_metered]
    for span in silent:
        is_innermost = (span.trace_id, span.span_id) not in around_calls
        if is_innermost and (span.trace_id, span.parent_id) not in metered_calls:
            kept.append(span)
    return kept


# Spans that repeat what the calls below them used.
_NOT_CALLS = frozenset(
    {"invoke_agent", "create_agent", "execute_tool", "fetch_response", "invoke_workflow", "plan", "agent", "chain"}
    | {"tool", "retriever", "reranker", "guardrail", "evaluator", "prompt", "workflow", "task", "retrieval"}
)


def _operation(span: Span) -> str:
    return str(_first(span.attributes, _OPERATION) or "").lower()


def _is_inference(span: Span) -> bool:
    return _operation(span) in INFERENCE


def _has_usage(span: Span) -> bool:
    return any(name in span.attributes for names in _COUNTS.values() for name in names)


def _draft(span: Span, own: str) -> Draft | Refusal:
    source = f"{'own:' if own else ''}otlp:{ai_calls.text(span.resource.get(_SERVICE)) or 'unknown_service'}"[:255]
    event_id = f"{span.trace_id}-{span.span_id}"
    try:
        if not _is_inference(span):
            raise Unusable(
                f"It reports tokens, but its operation {_operation(span)[:60]!r} is not known to be a call to a model, "
                "and may repeat what others report. Set gen_ai.operation.name to chat, or leave its usage out."
            )
        return ai_calls.draft_of(_call(span, source, event_id, own))
    except Unusable as error:
        return _refuse(span, source, event_id, RejectionReason.INVALID_EVENT, str(error))
    except NotACount as error:
        return _refuse(span, source, event_id, RejectionReason.INVALID_VALUE, str(error))


def _call(span: Span, source: str, event_id: str, own: str) -> Call:
    attributes = span.attributes
    asked = ai_calls.text(_first(attributes, _REQUEST_MODEL))
    model = ai_calls.text(_first(attributes, _RESPONSE_MODEL)) or asked
    facts: dict[str, Any] = {"model": model, "requested_model": asked if asked != model else None}
    facts |= {name: ai_calls.text(_first(attributes, names)) for name, names in _FACTS.items()}
    return Call(
        source=source,
        event_id=event_id,
        subject=_subject(span) or own,
        time=ai_calls.instant_of_nanoseconds(span.end_nanoseconds),
        counts=_counts(span),
        facts=facts
        | {
            "call_type": _operation(span),
            "status": "failure" if span.has_failed else None,
            "reported_cost": ai_calls.cost(_first(attributes, _COST)),
        },
        has_failed=span.has_failed,
        may_exclude_cache=True,
    )


def _counts(span: Span) -> Reported:
    return reported(**{name: _first(span.attributes, names) for name, names in _COUNTS.items()})


def _subject(span: Span) -> str:
    """Whose call it was: the span's word before its process's; an id as it is, a key only as its digest."""
    for attributes in (span.attributes, span.resource):
        if named := ai_calls.subject(attributes.get(_SUBJECT)):
            return named
        if digest := ai_calls.key_digest(_first(attributes, _KEY_HASHES)):
            return digest
    return ""


def _first(attributes: Any, names: tuple[str, ...]) -> Scalar | None:
    return next((attributes[name] for name in names if name in attributes), None)


def _refuse(span: Span, source: str, event_id: str, reason: RejectionReason, detail: str) -> Refusal:
    kept = {name: ai_calls.text(value) if isinstance(value, str) else value for name, value in span.attributes.items()}
    for name in (_SUBJECT, *_KEY_HASHES):
        kept.pop(name, None)
    members = {"trace_id": span.trace_id, "span_id": span.span_id, "end_time_unix_nano": str(span.end_nanoseconds)}
    body = _encode(members | {"subject": _subject(span), "attributes": kept})
    return Refusal(reason, detail, body, source, event_id)
