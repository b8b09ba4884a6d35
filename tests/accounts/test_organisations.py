"""Making, changing and suspending organisations."""

import pytest

from accounts.models import AuditEntry, Membership, Organisation, Project
from accounts.organisations import (
    InvalidName,
    InvalidSlug,
    InvalidTimeZone,
    SlugTaken,
    UnknownOrganisation,
    create_organisation,
    find_organisation,
    suspend,
    unsuspend,
    update_organisation,
)
from tests.accounts.threads import at_once


def test_new_organisation_has_an_owner_and_a_default_project(olivia):
    made = create_organisation("  Acme   GmbH ", olivia, time_zone="Europe/Berlin")

    assert (made.name, made.slug) == ("Acme GmbH", "acme-gmbh")
    assert made.days_zone == made.time_zone == "Europe/Berlin"
    assert Membership.objects.get(organisation=made).user == olivia
    assert Project.objects.get(organisation=made).is_default
    entry = AuditEntry.objects.get(organisation=made)
    assert (entry.action, entry.actor, entry.subject_id) == ("organisation.created", olivia, made.public_id)


def test_same_name_gets_another_address(acme, olivia):
    other = create_organisation("Acme", olivia)

    assert other.slug.startswith("acme-")
    assert other.pk != acme.pk


@pytest.mark.parametrize("name", ["日本", "New", "API", "!!!"])
def test_any_name_gets_an_address(olivia, name):
    assert create_organisation(name, olivia).slug not in {"", "new", "admin", "api"}


def test_taken_address_is_refused(acme, olivia):
    with pytest.raises(SlugTaken):
        create_organisation("Other", olivia, slug="acme")
    assert Organisation.objects.count() == 1


@pytest.mark.parametrize("slug", ["new", "Not A Slug", "ünïcode", "a" * 64, ""])
def test_odd_address_is_refused(acme, olivia, slug):
    with pytest.raises(InvalidSlug):
        create_organisation("Other", olivia, slug=slug)
    assert Organisation.objects.count() == 1


@pytest.mark.parametrize("name", ["", "   ", "x" * 121])
def test_odd_name_is_refused(olivia, name):
    with pytest.raises(InvalidName):
        create_organisation(name, olivia)


def test_unknown_zone_is_refused(olivia):
    with pytest.raises(InvalidTimeZone):
        create_organisation("Acme", olivia, time_zone="Mars/Olympus")


@pytest.mark.django_db(transaction=True)
def test_two_organisations_made_at_once_get_two_addresses(olivia):
    made = at_once(lambda: create_organisation("Initech", olivia), lambda: create_organisation("Initech", olivia))

    assert len({organisation.slug for organisation in made}) == 2
    assert Organisation.objects.count() == 2


def test_organisation_is_found_by_slug_and_id(acme):
    assert find_organisation("acme") == find_organisation(acme.public_id) == acme
    with pytest.raises(UnknownOrganisation):
        find_organisation("nobody")


def test_changed_zone_leaves_the_days_for_metering_to_rebuild(acme, olivia):
    changed = update_organisation(acme, time_zone="Asia/Tokyo", actor=olivia)

    assert (changed.time_zone, changed.days_zone) == ("Asia/Tokyo", "Europe/Berlin")
    assert changed.slug == "acme"
    entry = AuditEntry.objects.get(action="organisation.updated")
    assert entry.details == {"time_zone": ["Europe/Berlin", "Asia/Tokyo"]}


def test_change_to_the_same_is_no_change(acme, olivia):
    update_organisation(acme, name="Acme", time_zone="Europe/Berlin", actor=olivia)
    assert not AuditEntry.objects.filter(action="organisation.updated").exists()


def test_suspending_twice_suspends_once(acme, operator):
    assert [suspend(acme, actor=operator, reason="unpaid"), suspend(acme, actor=operator)] == [True, False]
    acme.refresh_from_db()
    assert acme.is_suspended
    assert AuditEntry.objects.get(action="organisation.suspended").details == {"reason": "unpaid"}
    assert [unsuspend(acme, actor=operator), unsuspend(acme, actor=operator)] == [True, False]
    acme.refresh_from_db()
    assert not acme.is_suspended
