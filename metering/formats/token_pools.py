"""Token counts as a source reports them, taken apart into pools that exclude each other. Pure: imports nothing of ours.

Nearly every source counts cached and other special tokens into its input, and reasoning into its output; the meters
want every token once. What cannot be true (more tokens cached than sent) is flagged, never evened out in silence, and
what was not reported stays absent: unknown is not zero.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from decimal import Decimal
from typing import Any

# Beyond this it is no count of tokens; see metering.judging.
LARGEST = 10**24


class NotACount(ValueError):
    """The text says which number is wrong, for the sender."""


@dataclass(frozen=True, slots=True)
class Reported:
    """What a source said about one call; None: nothing. Inputs include their cached part, output its reasoning."""

    input: int | None = None
    cache_read: int | None = None
    cache_write: int | None = None
    audio_input: int | None = None
    image_input: int | None = None
    audio_cache_read: int | None = None
    image_cache_read: int | None = None
    output: int | None = None
    reasoning: int | None = None
    audio_output: int | None = None
    image_output: int | None = None

    @property
    def has_usage(self) -> bool:
        """Whether any token is reported: sources write zeros where they know nothing."""
        return any(asdict(self).values())

    @property
    def is_silent(self) -> bool:
        """Nothing is reported, not even a zero."""
        return all(value is None for value in asdict(self).values())


@dataclass(frozen=True, slots=True)
class Pools:
    """Counts by the names of the meters' fields, and what is contradictory about them."""

    tokens: Mapping[str, int]
    flags: tuple[str, ...]


def reported(**values: Any) -> Reported:
    """Counts from whatever JSON or attributes hold: 12, 12.0 and "12" are twelve. NotACount for anything else."""
    return Reported(**{name: _count(name, value) for name, value in values.items()})


def exclusive(counts: Reported, *, may_exclude_cache: bool) -> Pools:
    """Take the counts apart.

    With more tokens in the cache than in the input, an emitter has probably passed on a number that excluded them
    (Anthropic's does): with `may_exclude_cache` the input is then taken as it is, else as entirely cached.
    """
    flags: list[str] = []
    found = {
        "input_tokens": _uncached_text(counts, may_exclude_cache, flags),
        "cache_read_tokens": counts.cache_read,
        "cache_write_tokens": counts.cache_write,
        "audio_input_tokens": _without(counts.audio_input, counts.audio_cache_read, "audio_cache_exceeds_audio", flags),
        "image_input_tokens": _without(counts.image_input, counts.image_cache_read, "image_cache_exceeds_image", flags),
        "output_tokens": _text_output(counts, flags),
        "reasoning_tokens": counts.reasoning,
        "audio_output_tokens": counts.audio_output,
        "image_output_tokens": counts.image_output,
    }
    return Pools({name: value for name, value in found.items() if value is not None}, tuple(flags))


def _uncached_text(counts: Reported, may_exclude_cache: bool, flags: list[str]) -> int | None:
    if counts.input is None:
        if counts.cache_read or counts.cache_write:
            flags.append("input_missing")
        return None
    cached = (counts.cache_read or 0) + (counts.cache_write or 0)
    special = (counts.audio_input or 0) + (counts.image_input or 0)
    special -= (counts.audio_cache_read or 0) + (counts.image_cache_read or 0)
    rest = counts.input - cached
    if rest < 0:
        flags.append("cache_exceeds_input")
        rest = counts.input if may_exclude_cache else 0
    elif special > rest:
        flags.append("modalities_exceed_input")
    return max(rest - max(special, 0), 0)


def _text_output(counts: Reported, flags: list[str]) -> int | None:
    if counts.output is None:
        return None
    special = (counts.audio_output or 0) + (counts.image_output or 0)
    if special > counts.output:
        flags.append("modalities_exceed_output")
    if (counts.reasoning or 0) > counts.output:
        flags.append("reasoning_exceeds_output")
    return max(counts.output - special, 0)


def _without(whole: int | None, part: int | None, flag: str, flags: list[str]) -> int | None:
    if whole is None or part is None:
        return whole
    if part > whole:
        flags.append(flag)
    return max(whole - part, 0)


def _count(name: str, value: Any) -> int | None:
    if value is None:
        return None
    number = _whole(value)
    if number is None or not 0 <= number < LARGEST:
        raise NotACount(f"Its count of {name.replace('_', ' ')} tokens is {str(value)[:40]!r}: it must be 0, 1, 2 …")
    return number


def _whole(value: Any) -> int | None:
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return value
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 30:
        return int(value)
    if isinstance(value, float):
        value = Decimal(value)
    if isinstance(value, Decimal) and value.is_finite() and value.adjusted() < 25 and value % 1 == 0:
        return int(value)
    return None
