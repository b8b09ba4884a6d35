"""Typed reads of the environment.

Every setting that a deployment may change is read here and nowhere else. A malformed value, or one that
production must set and has not, stops the start with a sentence that says what to do. A value may also come
from a file named by `<NAME>_FILE`, as container secrets do.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from django.core.exceptions import ImproperlyConfigured
from psycopg.conninfo import conninfo_to_dict

TRUE_WORDS = frozenset({"1", "true", "yes", "on"})
FALSE_WORDS = frozenset({"0", "false", "no", "off", ""})


class Environment:
    """Reads of one mapping of names to text, `os.environ` unless a test passes another."""

    def __init__(self, variables: Mapping[str, str] | None = None) -> None:
        self.variables = os.environ if variables is None else variables

    @property
    def is_production(self) -> bool:
        """True under KILOTOKEN_ENVIRONMENT=production; anything but that or `development` is refused."""
        name = self.text("KILOTOKEN_ENVIRONMENT", default="development")
        if name not in {"development", "production"}:
            raise ImproperlyConfigured(f"KILOTOKEN_ENVIRONMENT must be development or production, not {name!r}.")
        return name == "production"

    def text(self, name: str, *, default: str | None = None) -> str:
        """The value of `name`, or of the file that `<name>_FILE` names. Without a default it must be set."""
        path = self.variables.get(f"{name}_FILE")
        if path:
            return self._file(name, path)
        value = self.variables.get(name, default)
        if value is None:
            raise ImproperlyConfigured(f"Set {name} in the environment (or {name}_FILE to a file that holds it).")
        return value

    def secret(self, name: str, *, development: str) -> str:
        """A secret: required and never the development value in production."""
        value = self.text(name, default=None if self.is_production else development)
        if self.is_production and value in {"", development}:
            raise ImproperlyConfigured(f"{name} still has its development value: set a secret of your own.")
        return value

    def flag(self, name: str, *, default: bool) -> bool:
        word = self.text(name, default="1" if default else "0").strip().lower()
        if word in TRUE_WORDS:
            return True
        if word in FALSE_WORDS:
            return False
        raise ImproperlyConfigured(f"{name} must be yes or no, not {word!r}.")

    def integer(self, name: str, *, default: int, minimum: int = 0) -> int:
        text = self.text(name, default=str(default))
        try:
            number = int(text)
        except ValueError:
            raise ImproperlyConfigured(f"{name} must be a whole number, not {text!r}.") from None
        if number < minimum:
            raise ImproperlyConfigured(f"{name} must be at least {minimum}, not {number}.")
        return number

    def choice(self, name: str, choices: tuple[str, ...], *, default: str) -> str:
        """One of a few words."""
        value = self.text(name, default=default)
        if value not in choices:
            raise ImproperlyConfigured(f"{name} must be {' or '.join(choices)}, not {value!r}.")
        return value

    def words(self, name: str, *, default: str = "") -> list[str]:
        """A comma-separated list, without empty members."""
        return [word.strip() for word in self.text(name, default=default).split(",") if word.strip()]

    def url(self, name: str, *, default: str | None) -> str:
        """An absolute http(s) address without a trailing slash; an empty default means: may be left out."""
        value = self.text(name, default=default).rstrip("/")
        if value and urlsplit(value).scheme not in {"http", "https"}:
            raise ImproperlyConfigured(
                f"{name} must be an address that starts with http:// or https://, not {value!r}."
            )
        return value

    def database(self, name: str, *, default: str) -> dict[str, Any]:
        """A libpq URL or connection string as a Django database, with the connection pool on."""
        conninfo = self.text(name, default=None if self.is_production else default)
        try:
            parts = conninfo_to_dict(conninfo)
        except Exception as error:
            raise ImproperlyConfigured(f"{name} is not a PostgreSQL connection string: {error}") from error
        named = {"dbname": "NAME", "user": "USER", "password": "PASSWORD", "host": "HOST", "port": "PORT"}
        database: dict[str, Any] = {django: str(parts.pop(libpq, "") or "") for libpq, django in named.items()}
        # Statements that ask for it are prepared (accounts.prepared); Django's own never are. They are planned once:
        # left to itself, PostgreSQL plans those that take lists each time, which takes longer than running them.
        prepare_threshold = 5
        options = f"{parts.pop('options', None) or ''} -c plan_cache_mode=force_generic_plan".strip()
        pool = {"min_size": 1, "max_size": self.integer("DATABASE_POOL_SIZE", default=8, minimum=1), "timeout": 10}
        return {
            "ENGINE": "django.db.backends.postgresql",
            **database,
            "OPTIONS": {**parts, "options": options, "pool": pool, "prepare_threshold": prepare_threshold},
            "TEST": {"NAME": f"test_{database['NAME']}"},
        }

    def _file(self, name: str, path: str) -> str:
        try:
            return Path(path).read_text(encoding="utf-8").strip()
        except OSError as error:
            raise ImproperlyConfigured(f"{name}_FILE cannot be read: {error}") from error
