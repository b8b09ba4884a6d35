"""The base of our management commands: one result, printed for people or, with --json, for scripts.

Exit codes: 0 done; 1 it could not be done, or a check found something; 2 the command was called wrongly.
"""

import json
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.core.serializers.json import DjangoJSONEncoder
from django.utils import timezone

from accounts.errors import DomainError


class JsonCommand(BaseCommand):
    """Subclasses implement `run`; arguments are added in `add_arguments`, which calls super().

    A DomainError or CommandError becomes exit code 1 with {"error": {"code", "detail"}} on standard output under
    --json, and a sentence on standard error. Long jobs show progress on `self.stderr`. A command that makes a secret
    may offer --only-secret, for use within other commands.
    """

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--json", action="store_true", help="Print the result as one JSON document.")

    @property
    def actor(self) -> str:
        """How the audit log names this command."""
        return f"command {type(self).__module__.rpartition('.')[2]}"

    def run(self, **options: Any) -> Mapping[str, Any]:
        """Do the work and return what to print."""
        raise TypeError(f"{type(self).__name__} has no run().")

    def exit_code(self, result: Mapping[str, Any]) -> int:
        """For commands that check something: 1 when the result is bad news."""
        return 0

    def handle(self, *args: Any, **options: Any) -> None:
        as_json = options.pop("json")
        only_secret = options.pop("only_secret", False)
        try:
            result = self.run(**options)
        except DomainError as error:
            raise self._refusal(error.code, error.sentence, as_json) from error
        except CommandError as error:
            raise self._refusal("command_failed", str(error), as_json) from error
        if only_secret:
            self.stdout.write(result["secret"])
        else:
            self.stdout.write(_as_json(result) if as_json else "\n".join(_as_lines(result)))
        code = self.exit_code(result)
        if code:
            raise SystemExit(code)

    def _refusal(self, code: str, detail: str, as_json: bool) -> CommandError:
        if as_json:
            self.stdout.write(_as_json({"error": {"code": code, "detail": detail}}))
        return CommandError(detail, returncode=1)


def days_from_now(days: int | None) -> datetime | None:
    """The end that --expires-in-days means."""
    return None if days is None else timezone.now() + timedelta(days=days)


def _as_json(result: Mapping[str, Any]) -> str:
    return json.dumps(result, cls=DjangoJSONEncoder, indent=2, ensure_ascii=False)


def _as_lines(result: Mapping[str, Any], indent: str = "") -> list[str]:
    lines: list[str] = []
    for name, value in result.items():
        label = f"{indent}{name.replace('_', ' ')}:"
        if isinstance(value, Mapping):
            lines += [label, *_as_lines(value, indent + "  ")]
        elif isinstance(value, list | tuple) and value and isinstance(value[0], Mapping):
            lines.append(label)
            for row in value:
                lines.append(f"{indent}  - " + ", ".join(f"{key}={_plain(item)}" for key, item in row.items()))
        else:
            lines.append(f"{label} {_plain(value)}")
    return lines


def _plain(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, list | tuple):
        return ", ".join(str(item) for item in value) or "-"
    return str(value)
