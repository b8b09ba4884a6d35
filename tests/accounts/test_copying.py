"""Rows that go in by COPY are the rows that `bulk_create` would have written."""

import pytest
from django.forms.models import model_to_dict

from accounts.copying import copy_rows
from accounts.models import AuditEntry

pytestmark = pytest.mark.django_db


def entry(organisation, label: str) -> AuditEntry:
    details = {"name": ["“a\tb\\n”", None], "amount": "1\n2", "n": 1}
    return AuditEntry(
        organisation=organisation, actor_label=label, action="test.copied", subject_label="ü\n", details=details
    )


def test_copied_rows_are_those_that_are_inserted(acme, olivia):
    inserted = AuditEntry.objects.bulk_create([entry(acme, "one"), entry(None, "two")])
    copied = [entry(acme, "one"), entry(None, "two")]

    copy_rows(copied)

    for first, second in zip(inserted, copied, strict=True):
        first.refresh_from_db()
        kept = AuditEntry.objects.get(pk=second.pk)
        assert model_to_dict(first) | {"id": 0} == model_to_dict(kept) | {"id": 0}
        assert kept.created_at == second.created_at


def test_keys_follow_on_and_the_next_row_that_is_saved_has_one_of_its_own(acme):
    copied = [entry(acme, str(number)) for number in range(3)]

    copy_rows(copied)
    saved = entry(acme, "saved")
    saved.save()

    keys = [one.pk for one in [*copied, saved]]
    assert keys == sorted(set(keys))
    assert not any(one._state.adding for one in copied)


def test_nothing_is_copied_where_there_is_nothing():
    copy_rows([])

    assert not AuditEntry.objects.exists()
