"""Statements that go straight to libpq: the same answers, transactions and errors as through psycopg's cursor."""

from contextlib import nullcontext
from uuid import uuid4

import pytest
from django.db import IntegrityError, OperationalError, connection, transaction
from psycopg.errors import UniqueViolation

from accounts.models import Organisation
from accounts.prepared import as_array, run_directly, words_of

ADD = "SELECT $1::int + 1, ARRAY[$2::text, NULL], NULL::text, ARRAY[]::int[]"
KEEP = "INSERT INTO cache_entry VALUES ($1, 'x', now()) RETURNING cache_key"


@pytest.fixture
def key() -> str:
    """Of the cache, whose table no test empties."""
    return uuid4().hex


def prepared() -> int:
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM pg_prepared_statements WHERE name LIKE 'kilotoken_%'")
        return int(cursor.fetchone()[0])


@pytest.mark.django_db(transaction=True)
def test_it_is_prepared_once_and_again_where_it_was_forgotten():
    connection.close()
    for _ in range(3):
        assert run_directly(ADD, ["41", "held"]) == ["42", "{held,NULL}", None, "{}"]
    assert prepared() == 1
    with connection.cursor() as cursor:
        cursor.execute("DEALLOCATE ALL")
    assert run_directly(ADD, ["1", "x"])[0] == "2"
    assert prepared() == 1


@pytest.mark.django_db(transaction=True)
def test_it_is_part_of_the_transaction_around_it(key):
    with transaction.atomic():
        assert run_directly(KEEP, [key]) == [key]
        transaction.set_rollback(True)
    assert run_directly("SELECT count(*) FROM cache_entry WHERE cache_key = $1", [key]) == ["0"]
    assert run_directly(ADD, ["1", "x"])[0] == "2"


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("around", [nullcontext, transaction.atomic])
def test_it_fails_with_djangos_errors(acme, around, key):
    run_directly(KEEP, [key])
    with pytest.raises(IntegrityError) as found, around():
        run_directly(KEEP, [key])
    assert isinstance(found.value.__cause__, UniqueViolation)
    assert Organisation.objects.exists(), "the connection is of use"


@pytest.mark.django_db(transaction=True)
def test_a_connection_that_is_gone_is_an_operational_error():
    run_directly(ADD, ["1", "x"])
    with pytest.raises(OperationalError):
        run_directly("SELECT pg_terminate_backend(pg_backend_pid())", [])
    connection.close()
    assert run_directly(ADD, ["1", "x"])[0] == "2"


def test_arrays_of_words():
    assert words_of("{held,NULL,1.50}") == ["held", "NULL", "1.50"]
    assert words_of("{}") == words_of(None) == []
    assert as_array(["a", 1, None]) == '{"a",1,NULL}'
