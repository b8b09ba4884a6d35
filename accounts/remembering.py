"""Look-ups that are made once for one piece of work, however many verbs ask: meters, the price book, what is posted.

Nothing is remembered until somebody says for how long, `with remembering():` around one page, one bill or one group of
closings. What is looked up must not be changed inside. Imports nothing of ours.
"""

from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import wraps
from typing import Any

_answers: ContextVar[dict[Hashable, Any] | None] = ContextVar("answers", default=None)


@contextmanager
def remembering(*, anew: bool = False) -> Iterator[None]:
    """Inside, a remembered look-up asks once per arguments. Within another of these, the outer one's answers count,
    unless everything is to be asked `anew`."""
    if _answers.get() is not None and not anew:
        yield
        return
    token = _answers.set({})
    try:
        yield
    finally:
        _answers.reset(token)


def remembered[**P, T](lookup: Callable[P, T]) -> Callable[P, T]:
    """For a look-up with positional, hashable arguments and an answer that nobody changes."""

    @wraps(lookup)
    def ask(*arguments: P.args, **options: P.kwargs) -> T:
        known = _answers.get()
        if known is None:
            return lookup(*arguments, **options)
        place = (ask, arguments)
        if place not in known:
            known[place] = lookup(*arguments, **options)
        answer: T = known[place]
        return answer

    return ask


def remember(lookup: Callable[..., Any], *arguments: Hashable, answer: Any) -> None:
    """Give the answer beforehand, where many were looked up at once; nothing outside of `remembering`."""
    known = _answers.get()
    if known is not None:
        known[lookup, arguments] = answer
