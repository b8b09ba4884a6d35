"""Kinds of arguments that our commands share."""

from argparse import ArgumentTypeError
from datetime import datetime


def instant(text: str) -> datetime:
    """An ISO 8601 instant that says its zone."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        raise ArgumentTypeError(f"{text!r} is not an instant with a time zone such as 2026-11-01T00:00:00Z.")
    return moment
