"""Group commit: what concurrent threads ask for at the same time is done together, by one of them for all.

Nobody waits for a group to fill. A thread that finds nothing under way begins at once; whatever arrives meanwhile is
the next group. So a lone caller pays nothing, and the busier the process, the more share a look-up or a commit.
"""

from collections import deque
from collections.abc import Callable, Sequence
from threading import Lock


class Gathering[Item, Answer]:
    """Calls `run` with one or more items; it answers each in its place, all or none of them done.

    Where a group fails, each of its items is run alone and fails alone: `run` must leave nothing behind when it raises,
    and must be safe to repeat.
    """

    def __init__(
        self, run: Callable[[Sequence[Item]], Sequence[Answer]], *, at_once: int = 1, at_most: int = 64
    ) -> None:
        """`at_once`: groups under way at a time. `at_most`: items in a group."""
        self._run = run
        self._at_once = at_once
        self._at_most = at_most
        self._lock = Lock()
        self._under_way = 0
        self._waiting: deque[_Turn[Item, Answer]] = deque()

    def __call__(self, item: Item) -> Answer:
        """Raises what `run` raises for this item alone."""
        turn: _Turn[Item, Answer] = _Turn(item)
        with self._lock:
            leads = self._under_way < self._at_once
            if leads:
                self._under_way += 1
                turn.group = [turn]
            else:
                self._waiting.append(turn)
        if not leads:
            turn.sleep()
        if turn.group is not None:
            self._lead(turn.group)
        return turn.answered()

    def _lead(self, group: "list[_Turn[Item, Answer]]") -> None:
        try:
            self._answer(group)
        finally:
            self._hand_over()
            for turn in group[1:]:
                turn.wake()

    def _answer(self, group: "list[_Turn[Item, Answer]]") -> None:
        try:
            answers = self._run([turn.item for turn in group])
        except Exception as error:
            if len(group) == 1:
                group[0].error = error
                return
            for turn in group:
                self._answer([turn])
        else:
            for turn, answer in zip(group, answers, strict=True):
                turn.answers.append(answer)

    def _hand_over(self) -> None:
        """The first of those who wait leads the next group."""
        with self._lock:
            group = [self._waiting.popleft() for _ in range(min(self._at_most, len(self._waiting)))]
            if not group:
                self._under_way -= 1
                return
        group[0].group = group
        group[0].wake()


class Abandoned(RuntimeError):
    """The thread that led the group was stopped before it had an answer."""


class _Turn[Item, Answer]:
    __slots__ = ("_asleep", "answers", "error", "group", "item")

    def __init__(self, item: Item) -> None:
        self.item = item
        # Its own first, of the group that it is to lead.
        self.group: list[_Turn[Item, Answer]] | None = None
        # None or one.
        self.answers: list[Answer] = []
        self.error: Exception | None = None
        self._asleep = Lock()
        self._asleep.acquire()

    def sleep(self) -> None:
        self._asleep.acquire()

    def wake(self) -> None:
        self._asleep.release()

    def answered(self) -> Answer:
        if self.error is not None:
            raise self.error
        if not self.answers:
            raise Abandoned
        return self.answers[0]
