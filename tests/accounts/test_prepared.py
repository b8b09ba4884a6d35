"""Lists as PostgreSQL reads them."""

from datetime import UTC, datetime
from decimal import Decimal
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.django import TestCase

from accounts.prepared import Uuids, as_array, run_prepared

TEXTS = st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"]))


class Texts(TestCase):
    @given(st.lists(st.one_of(st.none(), TEXTS)))
    def test_any_texts_arrive_as_they_are(self, texts):
        assert run_prepared("SELECT %s::text[]", [as_array(texts)]).fetchone() == (texts,)


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("kind", "values"),
    [
        ("bigint", [1, None, -(2**63)]),
        ("numeric", [Decimal("0.000000000000000000000001"), Decimal("1E+30"), None]),
        ("timestamptz", [datetime(2026, 2, 28, 23, 59, 59, 999999, tzinfo=UTC), None]),
        ("text", []),
    ],
)
def test_numbers_and_instants_arrive_exactly(kind, values):
    assert run_prepared(f"SELECT %s::{kind}[]", [as_array(values)]).fetchone() == (values,)


@pytest.mark.django_db
@pytest.mark.parametrize("count", [0, 1, 1000])
def test_uuids_arrive_in_their_order(count):
    sent = [uuid4() for _ in range(count)]
    arrived = run_prepared("SELECT %s::uuid[]", [Uuids.of([one.bytes for one in sent])]).fetchone()
    assert arrived == (sent,)
