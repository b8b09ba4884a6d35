"""GET /v1/seals and /v1/proofs."""

import pytest
import time_machine

from accounts.models import Scope
from metering.merkle import leaf_hash, root_from_path
from metering.verifier import check_chain
from tests import factories
from tests.metering.sealed_world import at, receive, seal, unguarded

pytestmark = pytest.mark.django_db


@pytest.fixture
def sealed(acme):
    receive(acme, 10, *range(9))
    receive(acme, 11, 100)
    receive(acme, 13, 101, 102)
    return seal(at(14))


@pytest.fixture
def acme_api(api, acme_access_token):
    return api(acme_access_token.secret)


def test_seals_come_newest_first_by_cursor_and_make_a_chain(acme_api, acme, sealed):
    first = acme_api.get("/v1/seals?limit=2").json()
    second = acme_api.get(f"/v1/seals?limit=2&cursor={first['next_cursor']}").json()
    seals = first["items"] + second["items"]
    assert [(one["day"], one["event_count"]) for one in seals] == [
        ("2026-11-13", 2),
        ("2026-11-11", 1),
        ("2026-11-10", 9),
    ]
    assert second["next_cursor"] is None
    assert check_chain({"organisation": {"id": acme.public_id}, "seals": seals[::-1]}) == []


def test_a_proof_can_be_checked_with_what_is_in_it(acme_api, sealed):
    proof = acme_api.get("/v1/proofs", {"source": "gateway", "id": "e-4"}).json()
    leaf = leaf_hash(proof["leaf"].encode())
    assert leaf.hex() == proof["leaf_hash"]
    path = [bytes.fromhex(node) for node in proof["path"]]
    root = root_from_path(leaf, proof["index"], proof["size"], path)
    assert root is not None
    assert root.hex() == proof["seal"]["root"] == sealed[0].root
    assert (proof["source"], proof["id"], proof["size"]) == ("gateway", "e-4", 9)


def test_sources_and_ids_of_any_kind_can_be_asked_for(acme_api, draft):
    from tests.metering.conftest import take

    take(draft("id/with?odd&chars=ü \u2028", source="https://gw/a?b#c"), now=at(15))
    seal(at(17))
    answer = acme_api.get("/v1/proofs", {"source": "https://gw/a?b#c", "id": "id/with?odd&chars=ü \u2028"})
    assert answer.status_code == 200


@pytest.mark.parametrize(
    ("query", "status", "code"),
    [
        ({}, 400, "event_required"),
        ({"source": "gateway"}, 400, "event_required"),
        ({"source": "gateway", "id": "unknown"}, 404, "unknown_event"),
        ({"source": "gateway", "id": "nul\0\ud800"}, 400, "bad_request"),
        ({"source": "gateway", "id": "e-today"}, 409, "not_sealed_yet"),
        ({"source": "gateway", "id": "e-1"}, 409, "seal_broken"),
    ],
)
def test_refusals_have_codes(acme_api, acme, sealed, draft, query, status, code):
    receive(acme, 14, 999)
    query = {name: value.replace("e-today", "e-999") for name, value in query.items()}
    with unguarded() as cursor:
        cursor.execute("UPDATE event SET type = 'other' WHERE event_id = 'e-1'")
    if "\ud800" in query.get("id", ""):
        answer = acme_api.get("/v1/proofs?source=gateway&id=nul%00%ED%A0%80")
    else:
        answer = acme_api.get("/v1/proofs", query)
    assert (answer.status_code, answer.json()["code"]) == (status, code)


def test_nothing_of_another_organisation_exists(api, globex, acme, sealed):
    client = api(factories.access_token(globex).secret)
    assert client.get("/v1/seals").json() == {"items": [], "next_cursor": None}
    assert client.get("/v1/proofs", {"source": "gateway", "id": "e-4"}).status_code == 404
    assert client.get("/v1/seals", {"organisation": acme.public_id}).status_code == 404
    assert client.get("/v1/seals", {"cursor": sealed[0].public_id}).status_code == 400


@pytest.mark.parametrize("path", ["/v1/seals", "/v1/proofs?source=gateway&id=e-4"])
def test_they_take_usage_read(api, acme, sealed, path):
    client = api(factories.access_token(acme, scopes=[Scope.KEYS_READ]).secret)
    assert client.get(path).json()["code"] == "missing_scope"
    assert api("").get(path).status_code == 401


def test_the_list_costs_the_same_at_any_length(acme_api, acme, sealed, django_assert_max_num_queries):
    with django_assert_max_num_queries(4):
        acme_api.get("/v1/seals?limit=1")
    with django_assert_max_num_queries(4):
        acme_api.get("/v1/seals")


def test_the_openapi_document_describes_both(api):
    paths = api("").get("/v1/openapi.json").json()["paths"]
    listed = paths["/v1/seals"]["get"]
    assert listed["operationId"] == "list_seals"
    [example] = listed["responses"]["200"]["content"]["application/json"]["examples"].values()
    assert set(example["value"]) == {"items", "next_cursor"}
    assert {one["name"] for one in paths["/v1/proofs"]["get"]["parameters"]} == {"organisation", "source", "id"}


def test_a_sender_whose_clock_stood_still_is_told_to_send_again(api, acme, sealed, service_token):
    """The server read its clock before midnight and was held up until the day was sealed."""
    event = {"specversion": "1.0", "id": "stale", "source": "gateway", "type": "ai.usage", "subject": acme.public_id}
    with time_machine.travel(at(13, 23), tick=False):
        answer = api(service_token.secret).post("/v1/events", event)
    assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
    with time_machine.travel(at(14), tick=False):
        assert api(service_token.secret).post("/v1/events", event).json()["accepted"] == 1
