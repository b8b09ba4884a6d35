"""Doing once what is asked several times, also at the same moment."""

import pytest

from accounts.idempotency import InvalidIdempotencyKey, KeyReused, perform_once
from accounts.models import IdempotentRequest, Project
from accounts.projects import create_project
from tests.accounts.threads import at_once


def make(organisation, key, name="Chat"):
    return perform_once(
        organisation,
        operation="project.created",
        key=key,
        asked={"name": name},
        perform=lambda: create_project(organisation, name, actor="test"),
        identify=lambda project: project.public_id,
    )


def test_second_time_names_the_first_result(acme):
    first, second = make(acme, "a"), make(acme, "a")

    assert first.result is not None
    assert second.result is None
    assert first.result_id == second.result_id == Project.objects.get(name="Chat").public_id


def test_without_a_key_everything_is_done(acme):
    assert make(acme, None, "One").result
    assert make(acme, None, "Other").result
    assert not IdempotentRequest.objects.exists()


def test_key_is_for_one_request(acme):
    make(acme, "a")
    with pytest.raises(KeyReused):
        make(acme, "a", "Search")


@pytest.mark.parametrize("key", ["", "x" * 256])
def test_odd_key_is_refused(acme, key):
    with pytest.raises(InvalidIdempotencyKey):
        make(acme, key)


@pytest.mark.django_db(transaction=True)
def test_both_of_two_requests_at_once_get_one_result(acme):
    done = at_once(*[lambda: make(acme, "a")] * 4)

    assert len({one.result_id for one in done}) == 1
    assert sum(one.result is not None for one in done) == 1
    assert Project.objects.filter(name="Chat").count() == 1
