"""Concurrent callers share one run; each gets its own answer or its own error."""

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Event, Lock

import pytest

from accounts.gathering import Gathering

SECONDS = 10


class Doubling:
    """Doubles numbers; notes every group; the first waits until it is let go."""

    def __init__(self, *, waits: int = 1) -> None:
        self.groups: list[list[int]] = []
        self.begun = Event()
        self.go_on = Event()
        self._waits = waits
        self._lock = Lock()

    def __call__(self, numbers: Sequence[int]) -> list[int]:
        with self._lock:
            self.groups.append(list(numbers))
            waits = len(self.groups) <= self._waits
        if waits:
            self.begun.set()
            assert self.go_on.wait(SECONDS)
        if any(number < 0 for number in numbers):
            raise ValueError(f"below zero among {sorted(numbers)}")
        return [2 * number for number in numbers]


def _ask(gathering: Gathering[int, int], threads: ThreadPoolExecutor, numbers: Sequence[int]) -> "list[Future[int]]":
    return [threads.submit(gathering, number) for number in numbers]


def _until(is_so: Callable[[], bool]) -> None:
    patience = Event()
    for _ in range(SECONDS * 100):
        if is_so():
            return
        patience.wait(0.01)
    raise AssertionError("It never came to be so.")


def _until_waiting(gathering: Gathering[int, int], waiting: int) -> None:
    _until(lambda: len(gathering._waiting) == waiting)


def test_a_lone_caller_is_a_group_of_its_own() -> None:
    run = Doubling(waits=0)
    gathering = Gathering[int, int](run)

    assert [gathering(number) for number in (1, 2, 3)] == [2, 4, 6]
    assert run.groups == [[1], [2], [3]]


def test_what_arrives_meanwhile_is_the_next_group() -> None:
    run = Doubling()
    gathering = Gathering[int, int](run)
    with ThreadPoolExecutor(8) as threads:
        first = threads.submit(gathering, 1)
        assert run.begun.wait(SECONDS)
        others = _ask(gathering, threads, [2, 3, 4, 5])
        _until_waiting(gathering, 4)
        run.go_on.set()

        assert first.result(SECONDS) == 2
        assert [other.result(SECONDS) for other in others] == [4, 6, 8, 10]
    assert [sorted(group) for group in run.groups] == [[1], [2, 3, 4, 5]]


def test_a_group_has_no_more_than_its_most() -> None:
    run = Doubling()
    gathering = Gathering[int, int](run, at_most=2)
    with ThreadPoolExecutor(8) as threads:
        first = threads.submit(gathering, 1)
        assert run.begun.wait(SECONDS)
        others = _ask(gathering, threads, [2, 3, 4, 5, 6])
        _until_waiting(gathering, 5)
        run.go_on.set()

        assert [one.result(SECONDS) for one in [first, *others]] == [2, 4, 6, 8, 10, 12]
    assert [len(group) for group in run.groups] == [1, 2, 2, 1]


def test_as_many_groups_as_allowed_are_under_way() -> None:
    run = Doubling(waits=2)
    gathering = Gathering[int, int](run, at_once=2)
    with ThreadPoolExecutor(8) as threads:
        asked = _ask(gathering, threads, [1, 2, 3, 4])
        _until_waiting(gathering, 2)
        _until(lambda: [len(group) for group in run.groups] == [1, 1])
        run.go_on.set()

        assert [one.result(SECONDS) for one in asked] == [2, 4, 6, 8]


def test_one_that_fails_does_not_touch_the_others() -> None:
    run = Doubling()
    gathering = Gathering[int, int](run)
    with ThreadPoolExecutor(8) as threads:
        first = threads.submit(gathering, 1)
        assert run.begun.wait(SECONDS)
        good, bad, fine = _ask(gathering, threads, [2, -3, 4])
        _until_waiting(gathering, 3)
        run.go_on.set()

        assert first.result(SECONDS) == 2
        assert (good.result(SECONDS), fine.result(SECONDS)) == (4, 8)
        with pytest.raises(ValueError, match=r"below zero among \[-3\]"):
            bad.result(SECONDS)
    assert gathering(5) == 10


def test_many_threads_each_get_their_own_answer() -> None:
    run = Doubling(waits=0)
    gathering = Gathering[int, int](run, at_once=2, at_most=5)
    with ThreadPoolExecutor(16) as threads:
        answers = list(threads.map(gathering, range(5000)))

    assert answers == [2 * number for number in range(5000)]
    assert sorted(number for group in run.groups for number in group) == list(range(5000))
