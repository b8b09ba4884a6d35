"""The world of the sweeps, at a fixed time."""

from collections.abc import Iterator

import pytest
import time_machine

from tests.pages.portal_world import NOW, World, build_world


@pytest.fixture
def fixed_time() -> Iterator[None]:
    with time_machine.travel(NOW, tick=False):
        yield


@pytest.fixture
def world(fixed_time, acme) -> World:
    return build_world(acme)
