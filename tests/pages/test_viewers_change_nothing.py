"""A viewer sees and changes nothing: every address is posted to, and afterwards every table is what it was."""

import hashlib

import pytest
from django.apps import apps
from django.db import connection, transaction

from tests.pages.addresses import routes_of_an_organisation

# Everybody may end a membership of their own.
THEIR_OWN = {"accounts:leave"}
ROUTES = [route for route in routes_of_an_organisation() if route.name not in THEIR_OWN]
FORM = {
    "name": "Mine now",
    "role": "owner",
    "email": "mallory@acme.example",
    "time_zone": "UTC",
    "overlap": "0",
    "scopes": "usage:read",
    "legal_name": "Mine",
}
TABLES = [
    model._meta.db_table
    for app in ("accounts", "metering", "billing")
    for model in apps.get_app_config(app).get_models(include_auto_created=True)
]


def contents() -> dict[str, str]:
    """A digest of the rows of every table of ours."""
    found = {}
    with connection.cursor() as cursor:
        for table in TABLES:
            cursor.execute(f'SELECT count(*), string_agg(t::text, chr(10) ORDER BY t::text) FROM "{table}" t')
            count, rows = cursor.fetchone()
            found[table] = f"{count} rows, {hashlib.sha256((rows or '').encode()).hexdigest()}"
    return found


def test_viewer_posting_to_every_address_is_refused_and_changes_nothing(world, client_for, vera):
    client = client_for(vera)
    before = contents()
    for route in ROUTES:
        address = route.address(world)
        for headers in ({}, {"HX-Request": "true"}):
            status = client.post(address, FORM, headers=headers).status_code
            assert status in {403, 405}, f"{route.name} answers {status}"
            assert contents() == before, f"{route.name} changed something"


@pytest.mark.parametrize("method", ["get", "head"])
def test_looking_at_every_page_changes_nothing(world, client_for, olivia, method):
    client = client_for(olivia)
    before = contents()
    for route in ROUTES:
        getattr(client, method)(route.address(world))
        assert contents() == before, f"{method.upper()} of {route.name} changed something"


def test_what_a_viewer_is_refused_the_owner_may_do(world, client_for, vera, olivia):
    """The refusal is about the role, not about the request: whatever answers 403 to vera does not to olivia."""
    viewer, owner = client_for(vera), client_for(olivia)
    for route in ROUTES:
        address = route.address(world)
        if viewer.post(address, FORM).status_code == 403:
            with transaction.atomic():
                assert owner.post(address, FORM).status_code in {200, 302, 405}, route.name
                transaction.set_rollback(True)


def test_an_act_of_the_owner_shows_in_the_digests(world, client_for, olivia):
    """So that the sweeps above can fail."""
    before = contents()
    assert client_for(olivia).post("/o/acme/projects/new/", {"name": "New"}).status_code in {200, 302}
    changed = {table for table, digest in contents().items() if digest != before[table]}
    assert {"accounts_project", "accounts_auditentry"} <= changed
