"""Who may open which page and send which form: the whole matrix of addresses and roles."""

import pytest
from django.urls import reverse

from accounts.memberships import invite
from accounts.models import Capability, Membership, Role
from accounts.models.organisations import CAPABILITIES
from accounts.urls import urlpatterns
from tests import factories

# Name -> the capability it takes, None for any member.
PAGES = {
    "settings": None,
    "settings_change": Capability.MANAGE_ORGANISATION,
    "members": None,
    "leave": None,
    "invitation_create": Capability.MANAGE_MEMBERS,
    "invitation_withdrawal": Capability.MANAGE_MEMBERS,
    "member_role": Capability.MANAGE_MEMBERS,
    "member_removal": Capability.MANAGE_MEMBERS,
    "keys": None,
    "key_create": Capability.MANAGE_KEYS,
    "key": None,
    "key_change": Capability.MANAGE_KEYS,
    "keys_revocation": Capability.MANAGE_KEYS,
    "key_rotation": Capability.MANAGE_KEYS,
    "key_revocation": Capability.MANAGE_KEYS,
    "projects": None,
    "project_create": Capability.MANAGE_KEYS,
    "project": None,
    "project_name": Capability.MANAGE_KEYS,
    "project_archive": Capability.MANAGE_KEYS,
    "access_tokens": None,
    "access_token_create": Capability.MANAGE_TOKENS,
    "access_token_revocation": Capability.MANAGE_TOKENS,
    "audit": Capability.READ_AUDIT,
}
ONLY_POST = {"member_role"}
REDIRECTED_GET = {"settings_change", "invitation_create", "keys_revocation", "project_name"}


@pytest.fixture
def addresses(acme, vera, olivia, acme_key, acme_access_token):
    """Name -> address, each about something of acme's."""
    invitation, _ = invite(acme, "new@acme.example", Role.VIEWER, invited_by=olivia)
    ids = {
        "key": acme_key.api_key.public_id,
        "project": factories.default_project(acme).public_id,
        "member": Membership.objects.get(user=vera).public_id,
        "access_token": acme_access_token.token.public_id,
        "invitation": invitation.public_id,
    }

    def address(name: str) -> str:
        for kind in ("access_token", "key", "project", "member", "invitation"):
            if name == kind or (name.startswith(f"{kind}_") and not name.endswith("_create")):
                return reverse(f"accounts:{name}", kwargs={"slug": "acme", "public_id": ids[kind]})
        return reverse(f"accounts:{name}", kwargs={"slug": "acme"})

    return {name: address(name) for name in PAGES}


def test_the_matrix_knows_every_address_of_an_organisation():
    of_organisations = {str(route.name) for route in urlpatterns if str(route.pattern).startswith("o/")}
    assert of_organisations == set(PAGES)


@pytest.mark.parametrize("name", PAGES)
def test_nothing_exists_for_members_of_another_organisation(name, addresses, client_for, gus, globex):
    client = client_for(gus)
    assert client.get(addresses[name]).status_code == 404
    assert client.post(addresses[name], {}).status_code == 404


@pytest.mark.parametrize("name", PAGES)
def test_ids_of_another_organisation_do_not_exist_in_ones_own(name, addresses, client_for, gus, globex):
    """Gus asks his own organisation for acme's things."""
    if addresses[name].count("_") == 0:
        return
    own = addresses[name].replace("/o/acme/", "/o/globex/")
    client = client_for(gus)
    answers = {client.get(own).status_code, client.post(own, {"role": "viewer", "name": "x"}).status_code}
    assert 404 in answers
    assert answers <= {404, 405}


@pytest.mark.parametrize("name", PAGES)
def test_anonymous_visitors_are_asked_to_sign_in(name, addresses, client):
    response = client.get(addresses[name])

    assert response.status_code == 302
    assert response["Location"].startswith("/accounts/login/?next=/o/acme/")


@pytest.mark.parametrize("role", Role.values)
@pytest.mark.parametrize("name", PAGES)
def test_roles_open_what_they_may(name, role, addresses, acme, client_for):
    user = factories.user("somebody@acme.example")
    factories.member(acme, user, role)
    response = client_for(user).get(addresses[name])

    if PAGES[name] is not None and PAGES[name] not in CAPABILITIES[role]:
        assert response.status_code == 403
    elif name in ONLY_POST:
        assert response.status_code == 405
    else:
        assert response.status_code == (302 if name in REDIRECTED_GET else 200)


@pytest.mark.parametrize("name", [name for name, capability in PAGES.items() if capability])
def test_viewer_changes_nothing_by_posting_anyway(name, addresses, client_for, vera):
    assert client_for(vera).post(addresses[name], {"role": "owner", "name": "x"}).status_code == 403


@pytest.mark.parametrize("name", [name for name, capability in PAGES.items() if capability is None])
def test_viewer_sees_no_way_to_change_anything(name, addresses, client_for, vera):
    html = client_for(vera).get(addresses[name]).content.decode()

    for other, capability in PAGES.items():
        if capability is not None and other != "audit":
            assert f'"{addresses[other]}"' not in html


def test_htmx_request_of_somebody_signed_out_loads_the_sign_in_page(addresses, client):
    response = client.get(
        addresses["keys"], headers={"HX-Request": "true", "HX-Current-URL": "http://testserver/o/acme/keys/?show=all"}
    )

    assert response.status_code == 204
    assert response["HX-Redirect"] == "/accounts/login/?next=/o/acme/keys/%3Fshow%3Dall"
