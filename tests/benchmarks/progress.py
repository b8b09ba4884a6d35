"""What a long preparation is at: one line on the terminal, written over."""

import sys
import time

STARTED = time.monotonic()


def say(what: str) -> None:
    end = "\r" if sys.stderr.isatty() else "\n"
    print(f"  {time.monotonic() - STARTED:4.0f} s: {what:60}", end=end, file=sys.stderr, flush=True)  # noqa: T201
