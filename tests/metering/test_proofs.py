import pytest

from metering.leaves import TILE_LEAVES
from metering.merkle import leaf_hash, verify_inclusion
from metering.proofs import NotSealedYet, SealBroken, UnknownEvent, inclusion_proof
from metering.verifier import leaf_content, parse_exactly
from tests.metering.sealed_world import at, receive, seal, unguarded

pytestmark = pytest.mark.django_db


@pytest.mark.parametrize("count", [1, 2, TILE_LEAVES, TILE_LEAVES + 1, 3 * TILE_LEAVES + 5])
def test_every_event_of_a_day_can_be_proved(acme, count):
    receive(acme, 10, *range(count))
    [sealed] = seal(at(12))
    places = set()
    for number in range(0, count, max(1, count // 40)):
        proof = inclusion_proof(acme, source="gateway", event_id=f"e-{number}")
        assert proof.leaf.event_id == f"e-{number}"
        assert proof.seal == sealed
        leaf = leaf_hash(proof.leaf.content)
        assert verify_inclusion(leaf, proof.index, sealed.event_count, proof.path, bytes.fromhex(sealed.root))
        places.add(proof.index)
    assert len(places) == len(range(0, count, max(1, count // 40)))


def test_the_leaf_is_what_the_customer_can_make_from_the_event(acme):
    receive(acme, 10, 7)
    seal(at(12))
    leaf = inclusion_proof(acme, source="gateway", event_id="e-7").leaf.content
    event = {"source": "gateway", "id": "e-7", "type": "ai.usage", "subject": acme.public_id, "time_assumed": False}
    event |= {"time": "2026-11-10T00:00:00.000000Z", "data": parse_exactly('{"model": "m-1", "input_tokens": 7.0}')}
    assert leaf == leaf_content(event)


def test_an_event_of_a_day_that_runs_has_no_proof_yet(acme):
    receive(acme, 10, 1)
    with pytest.raises(NotSealedYet, match="2026-11-10"):
        inclusion_proof(acme, source="gateway", event_id="e-1")


def test_an_unknown_event_and_another_organisations_do_not_exist(acme, globex):
    receive(acme, 10, 1)
    seal(at(12))
    for organisation, event_id in ((acme, "e-2"), (globex, "e-1")):
        with pytest.raises(UnknownEvent):
            inclusion_proof(organisation, source="gateway", event_id=event_id)


def test_a_proof_that_would_not_hold_is_not_given(acme):
    receive(acme, 10, *range(TILE_LEAVES + 3))
    seal(at(12))
    with unguarded() as cursor:
        cursor.execute("UPDATE event SET type = 'other' WHERE event_id = 'e-5'")
    with pytest.raises(SealBroken):
        inclusion_proof(acme, source="gateway", event_id="e-5")


def test_a_proof_costs_a_handful_of_statements_whatever_the_day(acme, django_assert_max_num_queries):
    receive(acme, 10, *range(3 * TILE_LEAVES))
    seal(at(12))
    with django_assert_max_num_queries(7):
        inclusion_proof(acme, source="gateway", event_id="e-1")
