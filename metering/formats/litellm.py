"""LiteLLM's generic API callback: a JSON array of call records, one record, or one per line, all sent as JSON.

https://docs.litellm.ai/docs/observability/generic_api. Records carry prompts, answers and credentials: only the fields
declared here are ever decoded out of them. A call is known by its `litellm_call_id`; failed attempts add when they
began, since a retry reports under the id of the attempt that failed.
"""

from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import msgspec

from metering.drafts import Draft, Refusal
from metering.formats import ai_calls, lenient_json
from metering.formats.ai_calls import Call, Unusable, unreadable
from metering.formats.token_pools import NotACount, Reported, reported
from metering.models.events import RejectionReason

SOURCE = "litellm"


class _Parts(msgspec.Struct, gc=False):
    """`prompt_tokens_details` and its kin."""

    cached_tokens: Any = None
    # Two names of the same.
    cache_write_tokens: Any = None
    cache_creation_tokens: Any = None
    audio_tokens: Any = None
    image_tokens: Any = None
    reasoning_tokens: Any = None


class _Usage(msgspec.Struct, gc=False):
    """`metadata.usage_object`, of chat completions or of responses."""

    prompt_tokens: Any = None
    input_tokens: Any = None
    completion_tokens: Any = None
    output_tokens: Any = None
    prompt_tokens_details: _Parts | None = None
    input_tokens_details: _Parts | None = None
    completion_tokens_details: _Parts | None = None
    output_tokens_details: _Parts | None = None
    cache_read_input_tokens: Any = None
    cache_creation_input_tokens: Any = None
    prompt_cache_hit_tokens: Any = None
    service_tier: Any = None


class _Metadata(msgspec.Struct, gc=False):
    user_api_key_hash: Any = None
    usage_object: _Usage | None = None


class _Record(msgspec.Struct, gc=False):
    """The fields of a StandardLoggingPayload that metering is about. What is not here is dropped on arrival."""

    litellm_call_id: Any = None
    id: Any = None
    status: Any = None
    stream: Any = None
    cache_hit: Any = None
    call_type: Any = None
    custom_llm_provider: Any = None
    model: Any = None
    model_group: Any = None
    startTime: Any = None  # noqa: N815  LiteLLM's names
    endTime: Any = None  # noqa: N815
    prompt_tokens: Any = None
    completion_tokens: Any = None
    response_cost: Any = None
    end_user: Any = None
    metadata: _Metadata | None = None


_decode_record = msgspec.json.Decoder(_Record, float_hook=lenient_json.exact).decode
_encode = msgspec.json.Encoder(decimal_format="number").encode
_decode_array = msgspec.json.Decoder(list[msgspec.Raw]).decode


def decode_body(body: bytes) -> Iterator[Draft | Refusal]:
    """A draft or a refusal per record, whatever the body holds."""
    body = body.removeprefix(b"\xef\xbb\xbf").strip()
    if not body:
        return
    if body.startswith(b"["):
        yield from _decode_elements(body)
    elif b"\n" in body and not _is_one_record(body):
        yield from (decode_record(line) for line in body.split(b"\n") if line.strip())
    else:
        yield decode_record(body)


def decode_record(raw: bytes) -> Draft | Refusal:
    """One record, as it arrived."""
    try:
        record = _decode_record(raw)
    except (ValueError, RecursionError):
        return _decode_leniently(raw)
    return _draft(record)


def _decode_leniently(raw: bytes) -> Draft | Refusal:
    try:
        members = lenient_json.decode(raw)
    except ValueError:
        return unreadable(raw, "It is not valid JSON.")
    if not isinstance(members, dict):
        return unreadable(raw, "It is not a JSON object.")
    try:
        return _draft(msgspec.convert(members, _Record))
    except msgspec.ValidationError as error:
        return unreadable(raw, f"It is not a record of LiteLLM: {error}.")


def _decode_elements(body: bytes) -> Iterator[Draft | Refusal]:
    try:
        elements = [bytes(element) for element in _decode_array(body)]
    except (ValueError, RecursionError):
        yield from _decode_loose_elements(body)
    else:
        yield from map(decode_record, elements)


def _decode_loose_elements(body: bytes) -> Iterator[Draft | Refusal]:
    """The elements of an array that a strict decoder refuses, one by one; what follows a broken one is one refusal."""
    text, position = body.decode("utf-8", "surrogateescape"), 1
    while True:
        position = _after_space(text, position)
        if text[position : position + 1] == "]" and not text[position + 1 :].strip():
            return
        try:
            _, end = lenient_json.DECODER.raw_decode(text, position)
        except (ValueError, RecursionError):
            yield _broken(text[position:], position)
            return
        yield decode_record(text[position:end].encode("utf-8", "surrogateescape"))
        position = _after_space(text, end)
        if text[position : position + 1] == ",":
            position += 1
        elif text[position : position + 1] != "]":
            yield _broken(text[position:], position)
            return


def _broken(rest: str, position: int) -> Refusal:
    raw = rest.encode("utf-8", "surrogateescape")
    return unreadable(raw, f"The array breaks off or is no JSON from character {position} on.")


def _after_space(text: str, position: int) -> int:
    while text[position : position + 1] and text[position] in " \t\r\n":
        position += 1
    return position


def _is_one_record(body: bytes) -> bool:
    try:
        msgspec.json.decode(body, type=msgspec.Raw)
    except (ValueError, RecursionError):
        return False
    return True


# --- From record to draft ---------------------------------------------------------------------------------------------


def _draft(record: _Record) -> Draft | Refusal:
    event_id = _event_id(record)
    try:
        return ai_calls.draft_of(_call(record, event_id))
    except Unusable as error:
        return _refuse(record, event_id, RejectionReason.INVALID_EVENT, str(error))
    except NotACount as error:
        return _refuse(record, event_id, RejectionReason.INVALID_VALUE, str(error))


def _call(record: _Record, event_id: str) -> Call:
    if not event_id:
        raise Unusable("It has neither a litellm_call_id nor an id.")
    metadata = record.metadata or _Metadata()
    usage = metadata.usage_object or _Usage()
    counts = _counts(record, usage)
    from_cache = record.cache_hit is True or str(record.cache_hit).lower() == "true"
    if not counts.has_usage:
        # No call is made without a token: zeros are LiteLLM's way to say that it was not told.
        counts = Reported()
    provider = ai_calls.text(record.custom_llm_provider)
    # The proxy names a deployment's model with its provider in front: openai/gpt-5-mini.
    model = (ai_calls.text(record.model) or "").removeprefix(f"{provider}/") or None
    group = ai_calls.text(record.model_group)
    return Call(
        source=SOURCE,
        event_id=event_id,
        subject=ai_calls.key_digest(metadata.user_api_key_hash),
        time=ai_calls.instant(record.endTime) or ai_calls.instant(record.startTime),
        counts=counts,
        facts={
            "model": model or group,
            "model_group": group if group != model else None,
            "provider": provider,
            "call_type": ai_calls.text(record.call_type),
            "service_tier": ai_calls.text(usage.service_tier),
            "end_user": ai_calls.text(record.end_user),
            "response_id": ai_calls.text(record.id),
            "status": "failure" if _has_failed(record) else None,
            "reported_cost": ai_calls.cost(record.response_cost),
        },
        has_failed=_has_failed(record),
        is_from_gateway_cache=from_cache,
    )


def _event_id(record: _Record) -> str:
    """Empty if the record names none. A provider's response id may repeat, so it stands in only with the start."""
    started = str(record.startTime)[:40]
    if isinstance(record.litellm_call_id, str) and record.litellm_call_id:
        name = record.litellm_call_id
        return ai_calls.identifier(f"{name}:failed:{started}" if _has_failed(record) else name)
    if isinstance(record.id, str) and record.id:
        return ai_calls.identifier(f"{record.id}@{started}")
    return ""


def _has_failed(record: _Record) -> bool:
    return bool(record.status == "failure")


def _counts(record: _Record, usage: _Usage) -> Reported:
    """LiteLLM counts cache reads and writes into the prompt for every provider."""
    sent = usage.prompt_tokens_details or usage.input_tokens_details or _Parts()
    made = usage.completion_tokens_details or usage.output_tokens_details or _Parts()
    return reported(
        input=_first(record.prompt_tokens or None, usage.prompt_tokens, usage.input_tokens, record.prompt_tokens),
        cache_read=_first(sent.cached_tokens, usage.cache_read_input_tokens, usage.prompt_cache_hit_tokens),
        cache_write=_first(sent.cache_write_tokens, sent.cache_creation_tokens, usage.cache_creation_input_tokens),
        audio_input=sent.audio_tokens,
        image_input=sent.image_tokens,
        output=_first(
            record.completion_tokens or None, usage.completion_tokens, usage.output_tokens, record.completion_tokens
        ),
        reasoning=made.reasoning_tokens,
        audio_output=made.audio_tokens,
        image_output=made.image_tokens,
    )


def _first(*values: Any) -> Any:
    return next((value for value in values if value is not None), None)


def _refuse(record: _Record, event_id: str, reason: RejectionReason, detail: str) -> Refusal:
    """The body is the record without anything that is not metering's."""
    if record.metadata is not None:
        record.metadata.user_api_key_hash = ai_calls.key_digest(record.metadata.user_api_key_hash)
    return Refusal(reason, detail, _encode(_scalars(record)), SOURCE, event_id)


def _scalars(part: msgspec.Struct) -> dict[str, Any]:
    """The declared fields that hold something, nothing deeper than they are declared."""
    kept: dict[str, Any] = {}
    for name in part.__struct_fields__:
        value = getattr(part, name)
        if isinstance(value, msgspec.Struct):
            kept[name] = _scalars(value)
        elif isinstance(value, str):
            kept[name] = ai_calls.text(value)
        elif isinstance(value, (bool, int, float, Decimal)):
            kept[name] = value
    return kept
