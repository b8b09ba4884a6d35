"""A gateway in a process of its own, for tests: once told to, asks for calls one by one and says how many it got."""

import os
import sys
from datetime import datetime
from decimal import Decimal

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
django.setup()

from metering.admission import AdmissionRequest, admit  # noqa: E402


def main(name: str, digest: str, now: str, *units: str) -> None:
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    sys.stdin.readline()
    allowed = 0
    for number, count in enumerate(units):
        request = AdmissionRequest(f"{name}-{number}", digest, "m-1", estimate={"output_tokens": Decimal(count)})
        allowed += admit(request, now=datetime.fromisoformat(now)).is_allowed
    sys.stdout.write(f"{allowed}\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
