"""A worker of its own process for the tests: folds until nothing is pending, or stops where it is told to be killed."""

import os
import sys

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
django.setup()

from django.db import connection  # noqa: E402
from django.utils import timezone  # noqa: E402

from metering.aggregation import fold_pending  # noqa: E402

LIMIT_EVENTS = 10


def say(word: str) -> None:
    sys.stdout.write(f"{word}\n")
    sys.stdout.flush()


def stop_at(words: str) -> None:
    """Wait to be killed just after the statement that begins with these words, its transaction still open."""

    def wrapper(execute, sql, params, many, context):
        result = execute(sql, params, many, context)
        if str(sql).lstrip().startswith(words):
            say("waiting")
            sys.stdin.readline()
        return result

    connection.execute_wrappers.append(wrapper)


def main() -> None:
    if len(sys.argv) > 1:
        stop_at(sys.argv[1])
    say("ready")
    sys.stdin.readline()
    while fold_pending(now=timezone.now(), limit_events=LIMIT_EVENTS).batches:
        pass
    say("done")


if __name__ == "__main__":
    main()
