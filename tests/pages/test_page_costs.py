"""What a page asks of the database, at two sizes of acme: no list costs more queries when it is longer."""

from typing import Any

from django.db import connection
from django.test.utils import CaptureQueriesContext

from tests.pages.addresses import routes_of_an_organisation
from tests.pages.portal_world import World, build_world

# Not one: a bill also looks at the closed periods of the late window, which are two here and never all.
SHORT, LONG = 3, 25
# Queries of a page at most, of which session, user and membership are three. Bills, which credit pays, take more,
# and a change of plan shows three bills.
FEW = 20
MOST = {
    "billing:bill": 28,
    "billing:bill_by_project": 29,
    "billing:overview": 34,
    "billing:plan_change": 47,
    "billing:subscription_cancellation": 22,
}


def costs(client: Any, world: World) -> dict[str, int]:
    """Route name -> queries of looking at it a second time; addresses that only take forms are left out."""
    found = {}
    for route in routes_of_an_organisation():
        address = route.address(world)
        client.get(address)
        with CaptureQueriesContext(connection) as queries:
            response = client.get(address)
            if response.streaming:
                list(response.streaming_content)
        if response.status_code == 200:
            found[route.name] = len(queries)
    return found


def test_no_page_costs_more_queries_when_its_lists_are_longer(fixed_time, acme, globex, olivia, gus, client_for):
    short = costs(client_for(gus), build_world(globex, SHORT))
    long = costs(client_for(olivia), build_world(acme, LONG))
    assert len(short) > 20
    assert long == short


def test_no_page_costs_more_queries_than_is_known_of_it(fixed_time, acme, olivia, client_for):
    found = costs(client_for(olivia), build_world(acme, SHORT))
    assert {name: count for name, count in found.items() if count > MOST.get(name, FEW)} == {}
    assert set(MOST) <= set(found)
