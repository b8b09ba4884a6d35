"""What runs beside gateways is no part of our apps: it is found where its users would have installed it."""

import sys
from pathlib import Path

import pytest

from metering import catalogue

GATEWAYS = Path(__file__).parents[2] / "metering" / "gateways"
for folder in ("litellm", "streaming_server"):
    sys.path.append(str(GATEWAYS / folder))


@pytest.fixture(autouse=True)
def _fresh_catalogue() -> None:
    catalogue.forget()
