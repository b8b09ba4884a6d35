"""The usage of the demo's organisations: hourly shapes over several models, the same for the same day each time.

Pure: dates and shapes in, candidate events out. Weekdays are busier than weekends, office hours busier than nights, and
each week a little busier than the one before, so that the charts have something to show.
"""

import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from zoneinfo import ZoneInfo

from metering.drafts import Draft, make_draft

# Share of a day's calls by hour of the local day, in thousandths.
OFFICE_HOURS = (6, 4, 3, 3, 4, 8, 18, 42, 72, 86, 88, 80, 64, 78, 86, 84, 74, 56, 40, 32, 26, 20, 14, 12)
ROUND_THE_CLOCK = (34, 32, 30, 30, 32, 36, 40, 44, 46, 48, 48, 48, 46, 48, 48, 48, 46, 46, 44, 44, 42, 42, 40, 38)
WEEKEND = 0.35
GROWTH_PER_WEEK = 1.035


@dataclass(frozen=True, slots=True)
class ModelUse:
    """How one key uses one model: mean calls a day, mean tokens a call, shares that were cached or reasoning."""

    key_name: str
    model: str
    calls_per_day: float
    input_tokens: int
    output_tokens: int
    cache_read: float = 0.0
    cache_write: float = 0.0
    reasoning: float = 0.0


@dataclass(frozen=True, slots=True)
class History:
    """What one organisation did: its zone, its daily curve and its uses."""

    slug: str
    zone: ZoneInfo
    curve: tuple[int, ...]
    uses: tuple[ModelUse, ...]


def events(history: History, *, subjects: Mapping[str, str], start: datetime, end: datetime) -> Iterator[Draft]:
    """Events in [start, end) in order of time; `subjects` maps names of keys to their public ids."""
    first_day = start.astimezone(history.zone).date()
    for number in range((end.astimezone(history.zone).date() - first_day).days + 1):
        day = first_day + timedelta(days=number)
        for at, use, serial in _calls(history, day, week=number // 7):
            if start <= at < end:
                yield _event(history, use, subject=subjects[use.key_name], at=at, serial=serial)


def _calls(history: History, day: date, *, week: int) -> list[tuple[datetime, ModelUse, str]]:
    dice = random.Random(f"{history.slug} {day}")
    weekday = WEEKEND if day.weekday() >= 5 else 1.0
    midnight = datetime.combine(day, time(), history.zone)
    calls = []
    for use in history.uses:
        count = round(use.calls_per_day * weekday * GROWTH_PER_WEEK**week * dice.uniform(0.8, 1.2))
        for number in range(count):
            hour = dice.choices(range(24), history.curve)[0]
            at = midnight + timedelta(hours=hour, seconds=dice.randrange(3600), milliseconds=dice.randrange(1000))
            calls.append((at, use, f"{day:%Y%m%d}-{use.key_name}-{use.model}-{number}"))
    return sorted(calls, key=lambda call: call[0])


def _event(history: History, use: ModelUse, *, subject: str, at: datetime, serial: str) -> Draft:
    dice = random.Random(f"{history.slug} {serial}")
    prompt, output = _tokens(dice, use.input_tokens), _tokens(dice, use.output_tokens)
    cache_read, cache_write = int(prompt * use.cache_read), int(prompt * use.cache_write)
    pools = {
        "input_tokens": prompt - cache_read - cache_write,
        "cache_read_tokens": cache_read,
        "cache_write_tokens": cache_write,
        "output_tokens": output,
        "reasoning_tokens": int(output * use.reasoning),
    }
    return make_draft(
        source="demo-gateway",
        event_id=serial,
        type="ai.usage",
        subject=subject,
        time=at,
        data={"model": use.model, **{name: count for name, count in pools.items() if count}},
    )


def _tokens(dice: random.Random, mean: int) -> int:
    """Lengths of prompts and answers have a long tail."""
    return max(1, round(mean * dice.lognormvariate(-0.32, 0.8)))
