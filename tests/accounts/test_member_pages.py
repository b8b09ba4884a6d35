"""The pages of members, organisations, settings and the profile."""

import pytest
from django.urls import reverse

from accounts.models import Membership, Organisation, Role
from tests import factories


def address(name: str, *ids: str) -> str:
    return reverse(f"accounts:{name}", args=["acme", *ids])


def membership(user) -> Membership:
    return Membership.objects.get(user=user, organisation__slug="acme")


def test_role_is_changed_with_and_without_javascript(olivia, vera, client_for):
    client = client_for(olivia)
    change = address("member_role", membership(vera).public_id)
    whole = client.post(change, {"role": "billing"}, follow=True)
    assert membership(vera).role == "billing"
    assert "has another role now" in whole.content.decode()

    part = client.post(change, {"role": "admin"}, headers={"HX-Request": "true"})
    assert membership(vera).role == "admin"
    html = part.content.decode()
    assert 'id="member-list"' in html
    assert 'hx-swap-oob="true"' in html
    assert "<!doctype" not in html


def test_last_owner_is_told_why_not(olivia, acme, client_for):
    client = client_for(olivia)
    for act in (
        client.post(address("leave"), follow=True),
        client.post(address("member_role", membership(olivia).public_id), {"role": "viewer"}, follow=True),
        client.post(address("member_removal", membership(olivia).public_id), follow=True),
    ):
        assert "needs an owner" in act.content.decode()
    assert membership(olivia).role == "owner"


def test_member_is_removed_after_asking(olivia, vera, client_for):
    client = client_for(olivia)
    removal = address("member_removal", membership(vera).public_id)
    assert "Remove Vera Vogel?" in client.get(removal).content.decode()
    client.post(removal)

    assert not vera.memberships.exists()
    assert client_for(vera).get(address("members")).status_code == 404


def test_member_leaves(vera, client_for):
    client = client_for(vera)
    assert "Leave Acme?" in client.get(address("leave")).content.decode()
    client.post(address("leave"))
    assert not vera.memberships.exists()


@pytest.mark.parametrize("count", [1, 15])
def test_members_take_the_same_queries_at_any_number(acme, olivia, client_for, count, django_assert_num_queries):
    for number in range(count):
        factories.member(acme, factories.user(f"member{number}@acme.example"), Role.VIEWER)
    client = client_for(olivia)
    client.get(address("members"))

    with django_assert_num_queries(6):  # session, user, membership; members, invitations; the switcher
        client.get(address("members"))


def test_home_leads_to_where_one_was(olivia, acme, gus, client_for):
    factories.member(factories.organisation("Aardvark", gus, slug="aardvark"), olivia)
    client = client_for(olivia)

    assert client.get("/home/")["Location"] == "/o/aardvark/"
    client.get("/o/acme/keys/")
    assert client.get("/home/")["Location"] == "/o/acme/"
    assert client_for(factories.user("new@x.example")).get("/home/")["Location"] == "/organisations/new/"


def test_home_forgets_an_organisation_one_has_left(olivia, acme, gus, client_for):
    other = factories.organisation("Aardvark", gus, slug="aardvark")
    factories.member(other, olivia)
    client = client_for(olivia)
    client.get("/o/aardvark/keys/")
    other.memberships.filter(user=olivia).delete()
    assert client.get("/home/")["Location"] == "/o/acme/"


def test_organisation_is_made_in_the_browser(gus, client_for):
    client = client_for(gus)
    assert b"Your first organisation" in client.get("/organisations/new/").content
    assert client.post("/organisations/new/", {"name": "", "time_zone": "UTC"}).status_code == 200
    response = client.post("/organisations/new/", {"name": "Globex", "time_zone": "Asia/Tokyo"})

    assert response["Location"] == "/o/globex/"
    assert Organisation.objects.get(slug="globex").time_zone == "Asia/Tokyo"


def test_settings_are_changed_by_those_who_may(olivia, acme, client_for):
    client = client_for(olivia)
    assert b'value="Europe/Berlin" selected' in client.get(address("settings")).content
    client.post(address("settings_change"), {"name": "Acme AG", "time_zone": "America/New_York"})
    acme.refresh_from_db()

    assert (acme.name, acme.slug, acme.time_zone) == ("Acme AG", "acme", "America/New_York")
    assert client.post(address("settings_change"), {"name": "A", "time_zone": "Mars/X"}).status_code == 200


def test_old_zone_name_survives_a_change_of_name(olivia, acme, client_for):
    Organisation.objects.update(time_zone="US/Eastern")
    client = client_for(olivia)
    client.post(address("settings_change"), {"name": "Acme AG", "time_zone": "US/Eastern"})
    acme.refresh_from_db()
    assert (acme.name, acme.time_zone) == ("Acme AG", "US/Eastern")


def test_profile_name_is_changed(olivia, client_for):
    client = client_for(olivia)
    client.post("/profile/", {"name": "Liv Ortiz", "is_staff": "on", "email": "x@y.example"})
    olivia.refresh_from_db()
    assert (olivia.name, olivia.is_staff, olivia.email) == ("Liv Ortiz", False, "olivia@acme.example")


def test_switcher_lists_ones_own_organisations_alone(olivia, acme, globex, client_for):
    factories.organisation("Side project", olivia)
    html = client_for(olivia).get(address("keys")).content.decode()

    assert "Side project" in html
    assert "Globex" not in html


def test_anonymous_pages_ask_the_database_nothing(client, db, django_assert_num_queries):
    with django_assert_num_queries(0):
        assert client.get("/accounts/login/").status_code == 200
