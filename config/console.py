"""What the starter's commands say to a person at a terminal."""

import json
import os
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from config.instance import DEFAULT_DATA, Instance, Run

COLOURS = {"bold": "1", "dim": "2", "red": "31", "green": "32", "yellow": "33", "cyan": "36"}


def paint(text: str, colour: str) -> str:
    """The text in a colour, where the terminal shows colours and nobody asked for none."""
    if not sys.stdout.isatty() or os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        return text
    return f"\033[{COLOURS[colour]}m{text}\033[0m"


def say(text: str = "") -> None:
    print(text, flush=True)


def complain(text: str) -> None:
    print(f"kilotoken: {text}", file=sys.stderr, flush=True)


class Steps:
    """Progress of a start: one line per step with the seconds since the beginning."""

    def __init__(self) -> None:
        self.began = time.monotonic()

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.began

    def done(self, text: str) -> None:
        say(f"  {paint('✓', 'green')} {text:<58}{paint(f'{self.seconds:5.1f} s', 'dim')}")

    def note(self, text: str) -> None:
        say(f"  {paint('·', 'yellow')} {text}")


def echo(name: str, lines: Iterable[str]) -> None:
    """Lines that a process wrote to its log, with its name before each."""
    for line in lines:
        say(f"{paint(f'{name:>7} │', 'cyan')} {line}")


def welcome(instance: Instance, run: Run, *, heading: str) -> None:
    """Where to go and what to try, once everything runs."""
    say()
    say(f"  {paint(heading, 'bold')}  {paint(run.address, 'cyan')}")
    _logins(instance, run)
    say()
    say(f"  E-mails     {run.address}/dev/mailbox/ (and here)")
    if read_demo(instance.demo_file):
        say(f"  Tokens      {_short(instance.demo_file)}: one to send usage with, one to read it")
    say(f"  Logs        {_short(instance.logs)}/")
    if run.stripe_api_base:
        say(f"  Stripe      a sandbox stands in, at {run.stripe_api_base}")
    say(f"  Commands    ./kilotoken manage{_data_option(instance)}")
    say()


def _logins(instance: Instance, run: Run) -> None:
    demo = read_demo(instance.demo_file)
    if not demo:
        say(f"  An empty world: sign up at {run.address}/accounts/signup/")
        return
    say()
    logins = demo.get("logins", [])
    widths = [max((len(login[name]) for login in logins), default=0) for name in ("what", "email")]
    for login in logins:
        say(f"  {login['what']:<{widths[0]}}  {paint(login['email'].ljust(widths[1]), 'bold')}  {login['password']}")
    if demo.get("try"):
        say()
        say("  Try first")
        for number, line in enumerate(demo["try"], start=1):
            say(f"   {number}. {line.replace('{address}', run.address)}")


def read_demo(path: Path) -> dict[str, Any]:
    """What the demo world told about itself, or nothing."""
    try:
        told = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return told if isinstance(told, dict) else {}


def _short(path: Path) -> str:
    """The path as seen from the current folder, when that is shorter."""
    relative = os.path.relpath(path)
    return relative if not relative.startswith("..") else str(path)


def _data_option(instance: Instance) -> str:
    return "" if instance.data == DEFAULT_DATA else f" --data {_short(instance.data)}"
