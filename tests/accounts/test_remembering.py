"""Look-ups that are made once for one piece of work."""

import pytest

from accounts.remembering import remember, remembered, remembering

asked: list[int] = []


@remembered
def doubled(number: int) -> int:
    asked.append(number)
    return 2 * number


@pytest.fixture(autouse=True)
def nothing_asked():
    asked.clear()


def test_outside_every_call_asks():
    assert [doubled(2), doubled(2)] == [4, 4]
    assert asked == [2, 2]


def test_inside_each_argument_is_asked_once_and_forgotten_afterwards():
    with remembering():
        assert [doubled(2), doubled(3), doubled(2)] == [4, 6, 4]
        with remembering():
            doubled(3)
    doubled(2)
    assert asked == [2, 3, 2]


def test_what_begins_anew_neither_sees_nor_leaves_answers():
    with remembering():
        doubled(2)
        with remembering(anew=True):
            doubled(2)
            doubled(3)
        doubled(2)
        doubled(3)
    assert asked == [2, 2, 3, 3]


def broken() -> None:
    with remembering():
        doubled(2)
        raise ZeroDivisionError


def test_an_error_ends_the_memory():
    with pytest.raises(ZeroDivisionError):
        broken()
    doubled(2)
    assert asked == [2, 2]


def test_answers_can_be_given_beforehand():
    remember(doubled, 2, answer=5)
    with remembering():
        assert doubled(2) == 4
        remember(doubled, 3, answer=7)
        assert doubled(3) == 7
    assert asked == [2]
