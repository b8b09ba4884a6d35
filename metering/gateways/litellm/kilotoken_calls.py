"""What LiteLLM says about a call, as Kilotoken's usage event. Pure: no network, no clock.

Kilotoken's pools exclude each other: cached and other special tokens are taken out of the prompt, which LiteLLM counts
them into. What cannot be true is flagged with what was reported; what nobody reported is marked, never called zero.
"""

from collections.abc import Mapping
from typing import Any, TypeGuard

from kilotoken_gateway import Admitted

# Of a message besides its text: role and separators.
TOKENS_PER_MESSAGE = 4
# English and code come to about four bytes a token, other scripts to more tokens per letter and more bytes per letter.
BYTES_PER_TOKEN = 4


def facts_of(record: Mapping[str, Any], admitted: Admitted) -> dict[str, Any]:
    """What customers and operators group by, of LiteLLM's standard logging object; never a prompt or an answer."""
    provider = _text(record.get("custom_llm_provider"))
    model = (_text(record.get("model")) or "").removeprefix(f"{provider}/") or None
    group = _text(record.get("model_group")) or admitted.model
    return {
        "model": model or group,
        "model_group": group if group != model else None,
        "provider": provider,
        "call_type": _text(record.get("call_type")),
        "end_user": _text(record.get("end_user")),
        "response_id": _text(record.get("id")),
        "service_tier": _text(_mapping(_mapping(record.get("metadata")).get("usage_object")).get("service_tier")),
        "reported_cost": record.get("response_cost") if _is_number(record.get("response_cost")) else None,
    }


def usage_of(record: Mapping[str, Any]) -> dict[str, Any]:
    """Token counts by Kilotoken's meters, as LiteLLM's standard logging object reports them."""
    counts = _counts(record)
    if record.get("cache_hit") is True:
        served = {"gateway_cache_input_tokens": counts["input"], "gateway_cache_output_tokens": counts["output"]}
        return {"gateway_cache_hit": True} | {name: value for name, value in served.items() if value}
    if not any(counts.values()):
        return {"metering": "unmetered"}  # no call is made without a token: LiteLLM was not told
    return _exclusive(counts)


def estimated_usage(record: Mapping[str, Any]) -> dict[str, Any]:
    """The same where the provider's own count was never seen: LiteLLM has counted what went by."""
    usage = usage_of(record)
    return usage if "metering" in usage else usage | {"metering": "estimated"}


def guessed_usage(prompt_tokens: int, output_tokens: int) -> dict[str, Any]:
    """Of a call that broke off and that LiteLLM reports nothing about."""
    return {"input_tokens": prompt_tokens, "output_tokens": output_tokens, "metering": "estimated"}


def has_usage(record: Mapping[str, Any]) -> bool:
    return any(_counts(record).values())


# --- Estimates before the call ----------------------------------------------------------------------------------------


def prompt_tokens_of(request: Mapping[str, Any]) -> int:
    """About how long the prompt is: what is text in it, by its bytes. Images and sounds are not in it."""
    said = [request.get(name) for name in ("messages", "input", "prompt", "system", "instructions", "query")]
    messages = request.get("messages")
    extra = TOKENS_PER_MESSAGE * len(messages) if isinstance(messages, list) else 0
    tools = len(str(request["tools"])) if request.get("tools") else 0
    return (sum(map(_text_bytes, said)) + tools) // BYTES_PER_TOKEN + extra + 1


def max_tokens_of(request: Mapping[str, Any]) -> int | None:
    """The most that may be answered; None where the request sets no bound. Embeddings and the like answer no tokens."""
    answers = request.get("n")
    number = max(1, int(answers)) if _is_count(answers) else 1
    for name in ("max_completion_tokens", "max_tokens", "max_output_tokens"):
        if _is_count(most := request.get(name)):
            return int(most) * number
    return None


def tokens_of_text(text_bytes: int) -> int:
    return -(-text_bytes // BYTES_PER_TOKEN)


def text_bytes_of_chunk(chunk: Any) -> int:
    """How much text a streamed chunk brings, whatever API it belongs to."""
    bytes_found = 0
    for choice in getattr(chunk, "choices", None) or []:
        delta = getattr(choice, "delta", None)
        for name in ("content", "reasoning_content"):
            bytes_found += _text_bytes(getattr(delta, name, None))
    delta = getattr(chunk, "delta", None)
    return bytes_found + (_text_bytes(delta) if isinstance(delta, str) else 0)


def _text_bytes(value: Any) -> int:
    if isinstance(value, str):
        return len(value.encode("utf-8", "replace"))
    if isinstance(value, list):
        return sum(map(_text_bytes, value))
    if isinstance(value, Mapping):
        return _text_bytes(value.get("content")) + _text_bytes(value.get("text"))
    return 0


# --- Taking LiteLLM's counts apart ------------------------------------------------------------------------------------


def _counts(record: Mapping[str, Any]) -> dict[str, int]:
    usage = _mapping(_mapping(record.get("metadata")).get("usage_object"))
    sent = _mapping(usage.get("prompt_tokens_details") or usage.get("input_tokens_details"))
    made = _mapping(usage.get("completion_tokens_details") or usage.get("output_tokens_details"))
    return {
        "input": _first(record.get("prompt_tokens"), usage.get("prompt_tokens"), usage.get("input_tokens")),
        "cache_read": _first(sent.get("cached_tokens"), usage.get("cache_read_input_tokens")),
        "cache_write": _first(sent.get("cache_creation_tokens"), usage.get("cache_creation_input_tokens")),
        "audio_input": _first(sent.get("audio_tokens")),
        "image_input": _first(sent.get("image_tokens")),
        "output": _first(record.get("completion_tokens"), usage.get("completion_tokens"), usage.get("output_tokens")),
        "reasoning": _first(made.get("reasoning_tokens")),
        "audio_output": _first(made.get("audio_tokens")),
        "image_output": _first(made.get("image_tokens")),
    }


def _exclusive(counts: Mapping[str, int]) -> dict[str, Any]:
    special_in = sum(counts[name] for name in ("cache_read", "cache_write", "audio_input", "image_input"))
    special_out = counts["audio_output"] + counts["image_output"]
    flags = ["cache_exceeds_input"] if special_in > counts["input"] else []
    flags += ["modalities_exceed_output"] if special_out > counts["output"] else []
    pools: dict[str, Any] = {
        "input_tokens": max(counts["input"] - special_in, 0),
        "output_tokens": max(counts["output"] - special_out, 0),
    }
    pools |= {f"{name}_tokens": value for name, value in counts.items() if name not in ("input", "output") and value}
    return pools | ({"flags": flags, "reported": dict(counts)} if flags else {})


def _first(*values: Any) -> int:
    """The first that is more than nothing: zeros are also how LiteLLM says that it was not told."""
    return next((int(value) for value in values if _is_count(value) and value > 0), 0)


def _is_count(value: Any) -> TypeGuard[int | float]:
    return _is_number(value) and value >= 0 and value == int(value)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and value == value and abs(value) < 1e24


def _mapping(value: Any) -> Mapping[str, Any]:
    if hasattr(value, "model_dump"):
        value = value.model_dump()
    return value if isinstance(value, Mapping) else {}


def _text(value: Any) -> str | None:
    return value[:255] if isinstance(value, str) and value else None
