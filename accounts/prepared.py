"""Statements of the hot paths, planned once per connection rather than for every request.

Django writes values into the text of its queries, so PostgreSQL parses and plans each anew, which takes longer than
running a look-up by key. Use this for the few statements that every API request runs, and Django everywhere else.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from functools import cache
from itertools import count
from struct import Struct
from typing import Any, Self
from weakref import WeakKeyDictionary

import psycopg
from django.db import connection
from psycopg import Cursor, adapters
from psycopg.adapt import Dumper
from psycopg.errors import InvalidSqlStatementName, error_from_result
from psycopg.pq import ExecStatus, Format, TransactionStatus
from psycopg.pq.abc import PGresult


def run_prepared(statement: str, values: Sequence[Any] | Mapping[str, Any]) -> Cursor[Any]:
    """Run it on Django's connection, in its transaction if there is one; fails with Django's database errors."""
    connection.ensure_connection()
    with connection.wrap_database_errors:
        return Cursor(connection.connection).execute(statement, values, prepare=True)


def run_directly(statement: str, values: Iterable[str]) -> list[str | None]:
    """The first row, its columns as text that PostgreSQL wrote; for the one statement that is run most.

    The values too are text as PostgreSQL reads it, for `$1` and so on, with their casts. This is one call of libpq, for
    which Python's lock changes hands once; with psycopg's cursor it does so a dozen times.
    """
    connection.ensure_connection()
    encoded = [value.encode() for value in values]
    with connection.wrap_database_errors:
        if connection.in_atomic_block:
            result = _run_within(connection.connection, statement.encode(), encoded)
        else:
            result = _run_alone(connection.connection, statement, encoded)
    columns = [result.get_value(0, column) for column in range(result.nfields)]
    return [None if column is None else bytes(column).decode() for column in columns]


def _run_within(session: psycopg.Connection[Any], statement: bytes, values: list[bytes]) -> PGresult:
    if session.info.transaction_status == TransactionStatus.IDLE:
        session.execute("SELECT")  # psycopg begins a transaction with the first statement that it runs itself
    return _checked(session, session.pgconn.exec_params(statement, values))


def _run_alone(session: psycopg.Connection[Any], statement: str, values: list[bytes]) -> PGresult:
    """Prepared, where it is not yet or not any more: with a transaction that fails, psycopg forgets all there are."""
    name, known = _name_of(statement), _known.setdefault(session, set())
    if name in known:
        try:
            return _checked(session, session.pgconn.exec_prepared(name, values))
        except InvalidSqlStatementName:
            known.discard(name)
    _checked(session, session.pgconn.prepare(name, statement.encode()))
    known.add(name)
    return _checked(session, session.pgconn.exec_prepared(name, values))


def _checked(session: psycopg.Connection[Any], result: PGresult) -> PGresult:
    if session.closed:
        raise psycopg.OperationalError(result.get_error_message())
    if result.status not in (ExecStatus.TUPLES_OK, ExecStatus.COMMAND_OK):
        raise error_from_result(result)
    return result


# What was prepared on each connection.
_known: WeakKeyDictionary[psycopg.Connection[Any], set[bytes]] = WeakKeyDictionary()
_numbers = count(1)


@cache
def _name_of(statement: str) -> bytes:
    return b"kilotoken_%d" % next(_numbers)


_UUID, _UUID_ARRAY = 2950, 2951
# Dimensions, whether there are nulls, the elements' type, how many, the first one's number; then each after its length.
_ARRAY = Struct(">iiiii").pack
_UUID_LENGTH = Struct(">i").pack(16)


class Uuids(bytes):
    """A parameter of type `uuid[]` as it travels: PostgreSQL reads text digit by digit, thousands of them per batch."""

    __slots__ = ()

    @classmethod
    def of(cls, keys: Sequence[bytes]) -> Self:
        """Of UUIDs as their sixteen bytes."""
        return cls(_ARRAY(1, 0, _UUID, len(keys), 1) + b"".join([_UUID_LENGTH + key for key in keys]))


class _UuidsDumper(Dumper):
    format = Format.BINARY
    oid = _UUID_ARRAY

    def dump(self, obj: Uuids) -> Uuids:
        return obj


adapters.register_dumper(Uuids, _UuidsDumper)


def as_array(values: Iterable[Any]) -> str:
    """A list as PostgreSQL writes arrays: `{1,NULL,"a \\"b\\""}`, for a parameter with a cast such as `%s::bigint[]`.

    Of texts, numbers, instants and None. psycopg looks at each element to find its type, which takes longer than the
    statement where there are many short lists.
    """
    return "{" + ",".join(map(_as_element, values)) + "}"


def _as_element(value: Any) -> str:
    if isinstance(value, str):
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
    if isinstance(value, datetime):
        return value.isoformat()
    return "NULL" if value is None else str(value)


def words_of(array: str | None) -> list[str]:
    """The elements of an array as PostgreSQL writes it, of words or numbers: `{held,NULL,1.5}`."""
    inside = (array or "{}")[1:-1]
    return inside.split(",") if inside else []
