"""What is loaded when a process is ready is looked at by the garbage collector no more."""

import gc
from collections.abc import Iterator

import pytest

from config.garbage import YOUNG_OBJECTS, spare_what_is_loaded


@pytest.fixture
def collector_as_before() -> Iterator[None]:
    before = gc.get_threshold()
    yield
    gc.unfreeze()
    gc.set_threshold(*before)


@pytest.mark.usefixtures("collector_as_before")
def test_the_collector_looks_at_new_objects_only() -> None:
    loaded = [[number] for number in range(100)]
    spare_what_is_loaded()
    looked_at = {id(one) for one in gc.get_objects()}
    new = [[number] for number in range(100)]
    assert gc.get_threshold()[0] == YOUNG_OBJECTS
    assert not looked_at & {id(one) for one in loaded}
    assert {id(one) for one in new} <= {id(one) for one in gc.get_objects()}
