"""What a meter's definition may say: its paths, conditions, dimensions and tiers, checked and put into one form. Pure.

Raises ValueError with a sentence for whoever defines the meter.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from metering.members import COMPARING, OPERATORS, PRESENCE, readable_number

MOST_CONDITIONS = MOST_DIMENSIONS = 20
MOST_VALUES = 100
MOST_STEPS = 20
LONGEST_TEXT = 255
# Dimensions that every series has by itself; a label of that name would hide them.
RESERVED = frozenset({"meter", "project", "api_key", "organisation"})
PATH = re.compile(r"[^.\s][^.\x00-\x1f]*(\.[^.\x00-\x1f]+)*")


def checked_path(path: Any) -> str:
    """A member of the data, or a path with dots."""
    if not isinstance(path, str) or len(path) > LONGEST_TEXT or not PATH.fullmatch(path):
        raise ValueError(f"{path!r} is no member of an event's data such as region or usage.seconds.")
    return path


def checked_filters(stored: Any) -> list[dict[str, Any]]:
    """Conditions as a meter keeps them: field, operator and, where it compares, values as texts."""
    if not isinstance(stored, Sequence) or isinstance(stored, str) or len(stored) > MOST_CONDITIONS:
        raise ValueError(f"Conditions are a list of at most {MOST_CONDITIONS}.")
    return [_condition(one) for one in stored]


def checked_dimensions(dimensions: Any, tiers: Mapping[str, Any]) -> list[str]:
    """Names of members and paths, each once, none of them reserved or that of a tier."""
    if not isinstance(dimensions, Sequence) or isinstance(dimensions, str) or len(dimensions) > MOST_DIMENSIONS:
        raise ValueError(f"Dimensions are a list of at most {MOST_DIMENSIONS}.")
    paths = [checked_path(one) for one in dimensions]
    for name in (*paths, *tiers):
        if name in RESERVED:
            raise ValueError(f"{name!r} is a dimension of every meter already.")
    if len({*paths, *tiers}) < len(paths) + len(tiers) or "model" in tiers:
        raise ValueError("Every dimension needs a name of its own.")
    return paths


def checked_tiers(stored: Any) -> dict[str, Any]:
    """Name -> the fields that are added up, and rising steps of which the last has no end."""
    if not isinstance(stored, Mapping) or len(stored) > MOST_DIMENSIONS:
        raise ValueError("Tiers are an object: the name of a dimension, and what it is made of.")
    return {checked_path(name): _tier(name, one) for name, one in stored.items()}


def _condition(one: Any) -> dict[str, Any]:
    if not isinstance(one, Mapping) or not set(one) <= {"field", "operator", "values"}:
        raise ValueError('A condition is {"field": …, "operator": …, "values": […]}.')
    field, operator = checked_path(one.get("field")), one.get("operator")
    if operator not in OPERATORS:
        raise ValueError(f"An operator is one of {', '.join(OPERATORS)}.")
    values = one.get("values") or []
    if isinstance(values, str) or not isinstance(values, Sequence):
        raise ValueError(f"The values of the condition on {field} are a list.")
    texts = [_text(value, field) for value in values]
    if operator in PRESENCE:
        if texts:
            raise ValueError(f"{operator} has no values.")
        return {"field": field, "operator": operator}
    most = MOST_VALUES if operator in {"in", "not_in"} else 1
    if not 1 <= len(texts) <= most:
        raise ValueError(f"{operator} compares {field} with {'one value' if most == 1 else 'one to 100 values'}.")
    if operator in COMPARING and readable_number(texts[0]) is None:
        raise ValueError(f"{operator} compares {field} with a number, not with {texts[0]!r}.")
    return {"field": field, "operator": operator, "values": texts}


def _text(value: Any, field: str) -> str:
    if not isinstance(value, str) or len(value) > LONGEST_TEXT or "\x00" in value:
        raise ValueError(f"The values of the condition on {field} are texts, numbers too: {str(value)[:40]!r} is none.")
    return value


def _tier(name: str, one: Any) -> dict[str, Any]:
    if not isinstance(one, Mapping) or set(one) != {"fields", "steps"} or not one["fields"] or not one["steps"]:
        raise ValueError(f'The tiers of {name} are {{"fields": […], "steps": [{{"up_to": …, "label": …}}, …]}}.')
    fields, steps = [checked_path(path) for path in one["fields"]], list(one["steps"])
    if len(fields) > MOST_DIMENSIONS or len(steps) > MOST_STEPS:
        raise ValueError(f"The tiers of {name} are too many.")
    bounds = [step.get("up_to") if isinstance(step, Mapping) else None for step in steps]
    numbers = [readable_number(bound) for bound in bounds[:-1]]
    rising = [number for number in numbers if number is not None]
    if len(rising) < len(numbers) or rising != sorted(set(rising)) or bounds[-1] is not None:
        raise ValueError(f"The steps of {name} need rising `up_to`, numbers as texts, and a last one without.")
    labels = [_label(step, name) for step in steps]
    made = [{"up_to": bound, "label": label} for bound, label in zip(bounds[:-1], labels[:-1], strict=True)]
    return {"fields": fields, "steps": [*made, {"label": labels[-1]}]}


def _label(step: Any, name: str) -> str:
    label = step.get("label") if isinstance(step, Mapping) else None
    if not isinstance(label, str) or not 0 < len(label) <= LONGEST_TEXT or "\x00" in label:
        raise ValueError(f"Every step of {name} needs a label.")
    return label
