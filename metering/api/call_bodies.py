"""What the body of a call says about it, where a gateway hands it on: its model, and how much it may need. Pure.

Of chat completions, responses, messages, completions and embeddings, in the forms of OpenAI and Anthropic. Nothing is
kept: a prompt is measured and forgotten. A body that looks like JSON and cannot be read is refused rather than passed
over, since a model server that is more patient would run a model that nobody was asked about.
"""

from dataclasses import dataclass
from typing import Any

import msgspec

from accounts.problems import Problem

LONGEST_NAME = 200
MOST_TOKENS = 10**12
# As the LiteLLM plugin measures prompts.
BYTES_PER_TOKEN = 4
TOKENS_PER_MESSAGE = 4
# The members of a message or of one of its parts that hold text.
_TEXTS = ("content", "text", "input", "output", "arguments", "reasoning_content")


class _CallBody(msgspec.Struct):
    model: str = ""
    user: Any = None
    max_completion_tokens: int | float | None = None
    max_tokens: int | float | None = None
    max_output_tokens: int | float | None = None
    n: int | float | None = None
    messages: Any = None
    input: Any = None
    prompt: Any = None
    system: Any = None
    instructions: Any = None
    query: Any = None
    tools: msgspec.Raw = msgspec.Raw()


@dataclass(frozen=True, slots=True)
class ToldByBody:
    """Empty and None: it does not say."""

    model: str = ""
    end_user: str = ""
    prompt_tokens: int | None = None
    max_tokens: int | None = None


def told_by(raw: bytes, *, content_type: str = "") -> ToldByBody:
    """What a body says; nothing where it is no JSON object (an upload, say). Problem 400 where it cannot be read."""
    if not raw.lstrip().startswith((b"{", b"[")) and "json" not in content_type.lower():
        return ToldByBody()
    try:
        body = msgspec.json.decode(raw, type=_CallBody)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise Problem(400, "invalid_request", "The call's body is no JSON object that can be read.") from error
    if len(body.model) > LONGEST_NAME or not body.model.isprintable():
        raise Problem(400, "invalid_request", f"A model's name may have {LONGEST_NAME} printable characters.")
    named = body.user if isinstance(body.user, str) and body.user.isprintable() else ""
    return ToldByBody(body.model, named[:LONGEST_NAME], _prompt_tokens(body), _max_tokens(body))


def _max_tokens(body: _CallBody) -> int | None:
    """For all answers that were asked for; None where the request sets no bound."""
    answers = int(body.n) if body.n and body.n >= 1 else 1
    for most in (body.max_completion_tokens, body.max_tokens, body.max_output_tokens):
        if most is not None and most >= 0:
            return min(int(most) * answers, MOST_TOKENS)
    return None


def _prompt_tokens(body: _CallBody) -> int:
    """About how long the prompt is: what is text in it, by its bytes. Images and sounds are not in it."""
    said = (body.messages, body.input, body.prompt, body.system, body.instructions, body.query)
    extra = TOKENS_PER_MESSAGE * len(body.messages) if isinstance(body.messages, list) else 0
    return (sum(map(_text_bytes, said)) + len(bytes(body.tools))) // BYTES_PER_TOKEN + extra + 1


def _text_bytes(said: Any) -> int:
    if isinstance(said, str):
        return len(said) if said.isascii() else len(said.encode())
    if isinstance(said, list):
        return sum(map(_text_bytes, said))
    if isinstance(said, dict):
        return sum(_text_bytes(said[name]) for name in _TEXTS if name in said)
    return 0
