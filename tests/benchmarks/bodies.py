"""Usage as gateways report it: a stream of CloudEvents of several keys and models, encoded once.

A template holds one body; a marker in every event's id is replaced for each request, so that ids never repeat while
encoding costs a sender next to nothing.
"""

import json
import random
from collections.abc import Sequence
from datetime import UTC, datetime

MARKER = "@@@@@@@@@@@@"
MODELS = (
    "gpt-5-mini",
    "gpt-oss-120b",
    "claude-sonnet-4-5",
    "gemini-2.5-flash",
    "llama-4-maverick",
    "mistral-large-2512",
)
JSON_TYPES = {True: "application/cloudevents+json", False: "application/cloudevents-batch+json"}


def event(subject: str, event_id: str, dice: random.Random) -> dict[str, object]:
    """One call, with what a gateway usually knows of it."""
    tokens = {
        "input_tokens": dice.randrange(20, 9000),
        "cache_read_tokens": dice.choice((0, 0, 1024, 4096)),
        "output_tokens": dice.randrange(1, 2000),
        "reasoning_tokens": dice.choice((0, 0, 128)),
    }
    return {
        "specversion": "1.0",
        "id": event_id,
        "source": "benchmark/gateway-1",
        "type": "ai.usage",
        "subject": subject,
        "time": datetime.now(UTC).isoformat().replace("+00:00", "Z"),
        "data": {"model": dice.choice(MODELS), **tokens, "duration_ms": dice.randrange(90, 20_000), "status": "ok"},
    }


def templates(subjects: Sequence[str], size: int, count: int, seed: int) -> list[bytes]:
    """Bodies of `size` events: a single event by itself, more of them as an array."""
    dice = random.Random(seed)
    made = []
    for _ in range(count):
        events = [event(dice.choice(subjects), f"call-{MARKER}-{number:04}", dice) for number in range(size)]
        made.append(json.dumps(events[0] if size == 1 else events, separators=(",", ":")).encode())
    return made


def numbered(template: bytes, number: int) -> bytes:
    """A body whose ids no other has: the number takes the place of the marker."""
    return template.replace(MARKER.encode(), b"%012d" % number)
