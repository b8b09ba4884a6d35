"""Events of acme's key, and a clock of our own."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from metering import catalogue
from metering.drafts import Draft, make_draft
from metering.intake import Verdict, accept

NOW = datetime(2026, 11, 15, 12, 0, tzinfo=UTC)


def take(*drafts: Any, now: datetime = NOW, **options: Any) -> list[Verdict]:
    """What intake says of them."""
    return accept(list(drafts), format="test", service_token_id=None, now=now, **options)


@pytest.fixture(autouse=True)
def _fresh_catalogue():
    """No test sees the meters of another."""
    catalogue.forget()


@pytest.fixture
def draft(acme_key) -> Callable[..., Draft]:
    """Makes drafts of acme's key: draft("id", output_tokens=5), with any field given as a keyword."""

    def make(event_id: str = "1", *, data: dict[str, Any] | None = None, **fields: Any) -> Draft:
        named = {name: fields.pop(name) for name in ("source", "type", "subject", "time") if name in fields}
        values = {"source": "gateway", "type": "ai.usage", "subject": acme_key.api_key.public_id, "time": NOW} | named
        return make_draft(event_id=event_id, data=data if data is not None else {"model": "m-1"} | fields, **values)

    return make
