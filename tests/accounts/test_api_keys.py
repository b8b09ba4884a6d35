"""API keys: making, rotating, revoking, resolving, and that no secret stays behind."""

import logging
from datetime import UTC, datetime, timedelta

import pytest
import time_machine
from django.db import connection
from django.utils import timezone

from accounts import api_keys
from accounts.credentials import API_KEY, digest_of
from accounts.key_changes import change_api_key
from accounts.models import ApiKey, ApiKeySecret, AuditEntry
from accounts.organisations import OrganisationSuspended, suspend
from accounts.projects import archive_project
from tests import factories
from tests.accounts.threads import at_once

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)


def test_secret_has_256_bits_and_only_its_digest_is_kept(acme, olivia, caplog):
    caplog.set_level(logging.DEBUG)
    project = factories.default_project(acme)
    key, credential = api_keys.create_api_key(acme, project=project, name="CI", actor=olivia)

    assert credential.secret.startswith(API_KEY)
    assert len(credential.secret) - len(API_KEY) == 43  # 32 bytes in base 64
    kept = ApiKeySecret.objects.get(api_key=key)
    assert kept.digest == credential.digest == digest_of(credential.secret)
    assert kept.prefix == credential.secret[:10]
    assert kept.last_four == credential.secret[-4:]
    assert credential.secret not in caplog.text
    assert credential.secret not in _whole_database()


def _whole_database() -> str:
    """Every row of every table of ours, as text."""
    texts = []
    with connection.cursor() as cursor:
        for table in connection.introspection.table_names(cursor):
            cursor.execute(f'SELECT t::text FROM "{table}" AS t')
            texts += [row[0] for row in cursor.fetchall()]
    return "\n".join(texts)


def test_key_belongs_to_a_usable_project_of_its_organisation(acme, globex, olivia):
    old = factories.project(acme, "Old")
    archive_project(old, actor=olivia)
    old.refresh_from_db()
    with pytest.raises(api_keys.ProjectArchived):
        api_keys.create_api_key(acme, project=old, name="x", actor=olivia)
    with pytest.raises(api_keys.UnknownProject):
        api_keys.create_api_key(acme, project=factories.default_project(globex), name="x", actor=olivia)
    with pytest.raises(api_keys.InvalidKeyName):
        api_keys.create_api_key(acme, project=factories.default_project(acme), name=" ", actor=olivia)
    with pytest.raises(api_keys.InvalidExpiry):
        api_keys.create_api_key(
            acme, project=factories.default_project(acme), name="x", actor=olivia, expires_at=timezone.now()
        )
    assert ApiKey.objects.count() == 0


def test_suspended_organisation_makes_no_secrets(acme, acme_key, olivia, operator):
    suspend(acme, actor=operator)
    with pytest.raises(OrganisationSuspended):
        factories.api_key(acme)
    with pytest.raises(OrganisationSuspended):
        api_keys.rotate_api_key(acme_key.api_key, overlap=timedelta(0), actor=olivia)
    assert api_keys.revoke_api_key(acme_key.api_key, actor=olivia)


def test_rotation_keeps_the_id_and_lets_both_secrets_overlap(acme_key, olivia):
    new = api_keys.rotate_api_key(acme_key.api_key, overlap=timedelta(hours=1), actor=olivia, now=NOON)

    old_row = ApiKeySecret.objects.get(digest=acme_key.digest)
    assert old_row.expires_at == NOON + timedelta(hours=1)
    assert ApiKeySecret.objects.get(digest=new.digest).expires_at is None
    found = api_keys.resolve_subjects([acme_key.digest, new.digest])
    assert found[acme_key.digest] == found[new.digest]
    entry = AuditEntry.objects.get(action="api_key.rotated")
    assert entry.details == {"last_four": new.last_four, "overlap_seconds": 3600}


def test_rotation_without_overlap_ends_the_old_secrets_at_once(acme_key, olivia):
    api_keys.rotate_api_key(acme_key.api_key, overlap=timedelta(days=7), actor=olivia, now=NOON)
    api_keys.rotate_api_key(acme_key.api_key, overlap=timedelta(0), actor=olivia, now=NOON + timedelta(days=1))

    ends = ApiKeySecret.objects.order_by("pk").values_list("expires_at", flat=True)
    assert list(ends) == [NOON + timedelta(days=1), NOON + timedelta(days=1), None]


def test_rotation_never_prolongs_a_secret(acme_key, olivia):
    api_keys.rotate_api_key(acme_key.api_key, overlap=timedelta(hours=1), actor=olivia, now=NOON)
    api_keys.rotate_api_key(acme_key.api_key, overlap=timedelta(days=7), actor=olivia, now=NOON)

    assert ApiKeySecret.objects.get(digest=acme_key.digest).expires_at == NOON + timedelta(hours=1)


@pytest.mark.parametrize("overlap", [timedelta(seconds=-1), timedelta(days=31)])
def test_odd_overlap_is_refused(acme_key, olivia, overlap):
    with pytest.raises(api_keys.InvalidOverlap):
        api_keys.rotate_api_key(acme_key.api_key, overlap=overlap, actor=olivia)


def test_revoked_or_expired_key_is_not_rotated(acme, acme_revoked_key, olivia):
    with pytest.raises(api_keys.ApiKeyRevoked):
        api_keys.rotate_api_key(acme_revoked_key.api_key, overlap=timedelta(0), actor=olivia)
    with time_machine.travel(NOON, tick=False):
        short = factories.api_key(acme, expires_at=NOON + timedelta(days=1))
    with pytest.raises(api_keys.ApiKeyExpired):
        api_keys.rotate_api_key(short.api_key, overlap=timedelta(0), actor=olivia, now=NOON + timedelta(days=1))


@pytest.mark.django_db(transaction=True)
def test_key_rotated_twice_at_once_has_one_secret_without_an_end(acme_key, olivia):
    def rotate():
        return api_keys.rotate_api_key(acme_key.api_key, overlap=timedelta(0), actor=olivia)

    done = at_once(rotate, rotate)

    assert {type(one).__name__ for one in done} == {"Credential"}
    assert ApiKeySecret.objects.filter(expires_at=None).count() == 1


@pytest.mark.django_db(transaction=True)
def test_project_is_not_archived_under_a_new_key(acme, olivia):
    project = factories.project(acme, "Short-lived")
    done = at_once(lambda: factories.api_key(acme, project=project), lambda: archive_project(project, actor=olivia))
    project.refresh_from_db()

    has_key = ApiKey.objects.filter(project=project).exists()
    assert has_key != (project.archived_at is not None), done


def test_revoking_twice_revokes_once(acme_key, olivia):
    assert [api_keys.revoke_api_key(acme_key.api_key, actor=olivia) for _ in range(2)] == [True, False]
    acme_key.api_key.refresh_from_db()
    assert acme_key.api_key.status(timezone.now()) == "revoked"
    assert AuditEntry.objects.filter(action="api_key.revoked").count() == 1


def test_renaming_is_audited_once(acme_key, olivia):
    for _ in range(2):
        change_api_key(acme_key.api_key, {"name": " New  name "}, actor=olivia, now=NOON)
    assert AuditEntry.objects.get(action="api_key.renamed").details == {"name": ["Production", "New name"]}


def test_live_keys_are_those_that_say_so_themselves(acme, acme_key, acme_revoked_key):
    with time_machine.travel(NOON, tick=False):
        factories.api_key(acme, "Short", expires_at=NOON + timedelta(hours=1))
    for now in (NOON, NOON + timedelta(hours=1), NOON + timedelta(days=3)):
        said = {key.pk for key in ApiKey.objects.all() if key.is_live(now)}
        assert set(ApiKey.objects.live(now).values_list("pk", flat=True)) == said


def test_any_number_of_subjects_takes_one_query_and_then_none(acme, globex, django_assert_num_queries):
    keys = [factories.api_key(acme, f"Key {number}") for number in range(20)]
    subjects = [key.digest for key in keys] + [key.api_key.public_id for key in keys] + [globex.public_id]

    with django_assert_num_queries(1):
        found = api_keys.resolve_subjects(subjects)
    assert set(found) == set(subjects)
    with django_assert_num_queries(0):
        assert api_keys.resolve_subjects(subjects) == found
    with django_assert_num_queries(0):
        assert api_keys.resolve_subjects(["", "key", "x" * 64, "Org_1"]) == {}


def test_key_counts_from_the_moment_it_exists(acme):
    project = factories.default_project(acme)
    assert api_keys.resolve_subjects(["key_unknown"]) == {}
    key = ApiKey.objects.create(organisation=acme, project=project, name="x", public_id="key_unknown")

    assert api_keys.resolve_subjects(["key_unknown"])["key_unknown"].api_key_id == key.pk


def test_changed_zone_is_seen_after_half_a_minute(acme, monkeypatch):
    clock = [1000.0]
    monkeypatch.setattr(api_keys.time, "monotonic", lambda: clock[0])
    assert api_keys.resolve_subjects([acme.public_id])[acme.public_id].time_zone == "Europe/Berlin"
    type(acme).objects.update(time_zone="Asia/Tokyo")
    clock[0] += 29
    assert api_keys.resolve_subjects([acme.public_id])[acme.public_id].time_zone == "Europe/Berlin"
    clock[0] += 2
    assert api_keys.resolve_subjects([acme.public_id])[acme.public_id].time_zone == "Asia/Tokyo"


def test_last_use_goes_forward_and_not_by_seconds(acme, acme_key, django_assert_num_queries):
    other = factories.api_key(acme)
    pairs = {acme_key.api_key.pk: NOON, other.api_key.pk: NOON + timedelta(minutes=5)}
    with django_assert_num_queries(1):
        assert api_keys.touch_last_used(pairs) == 2
    assert api_keys.touch_last_used({acme_key.api_key.pk: NOON + timedelta(seconds=59)}) == 0
    assert api_keys.touch_last_used({other.api_key.pk: NOON}) == 0
    assert api_keys.touch_last_used({acme_key.api_key.pk: NOON + timedelta(seconds=61)}) == 1
    assert api_keys.touch_last_used({}) == 0
    acme_key.api_key.refresh_from_db()
    assert acme_key.api_key.last_used_at == NOON + timedelta(seconds=61)
