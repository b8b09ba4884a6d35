"""An operator who looks in opens what a viewer opens, and changes nothing at any address."""

from django.urls import reverse

from tests.pages.addresses import routes_of_an_organisation
from tests.pages.test_viewers_change_nothing import FORM, contents

# What a look itself writes.
NOTED = {"accounts_auditentry"}


def test_looking_in_opens_pages_and_changes_nothing(world, acme, client_for, operator, vera):
    client, viewer = client_for(operator), client_for(vera)
    ask = reverse("admin:accounts_organisation_look_in", args=[acme.pk])
    client.post(ask, {"confirmed": "yes", "reason": "Ticket 12"})
    before = contents()
    for route in routes_of_an_organisation():
        address = route.address(world)
        seen, answered = viewer.get(address), client.get(address)
        if answered.streaming:
            list(answered.streaming_content)
        assert answered.status_code == seen.status_code, route.name
        assert client.post(address, FORM).status_code == 403, route.name
    changed = {table for table, digest in contents().items() if digest != before[table]}
    assert changed <= NOTED
