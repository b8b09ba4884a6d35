"""Proofs that an event is among the sealed ones: its leaf, its place, and the hashes on the way to the day's root.

Reads the event's own tile and the roots of the others, so that a proof costs the same on a day of a million events as
on one of a hundred thousand.
"""

from dataclasses import dataclass
from datetime import UTC, date
from typing import Any
from uuid import UUID

from accounts.errors import DomainError
from accounts.models import Organisation
from metering.canonical import instant
from metering.identity import event_key
from metering.leaves import TILE_LEAVES, Leaf, leaves_between
from metering.merkle import audit_path, verify_inclusion
from metering.models import Event, IngestBatch, Seal, SealTile


class UnknownEvent(DomainError):
    code = "unknown_event"
    sentence = "No event with this source and id was accepted."
    status = 404


class NotSealedYet(DomainError):
    code = "not_sealed_yet"


class SealBroken(DomainError):
    code = "seal_broken"


@dataclass(frozen=True, slots=True)
class Proof:
    """Leaf number `index` of the `seal.event_count` leaves under `seal.root`; `path` leads there, lowest first."""

    leaf: Leaf
    index: int
    path: tuple[bytes, ...]
    seal: Seal


def inclusion_proof(organisation: Organisation, *, source: str, event_id: str) -> Proof:
    """The proof for one event, checked; UnknownEvent, NotSealedYet, or SealBroken if it is not as it was sealed."""
    key = UUID(bytes=event_key(source, event_id))
    day = _day_of_receipt(organisation, key)
    seal = Seal.objects.for_organisation(organisation).filter(day=day).first()
    if seal is None:
        raise NotSealedYet(f"It was received on {day}; the events of a day are sealed once the day is over in UTC.")
    proof = _proof(organisation, seal, key)
    root = bytes.fromhex(seal.root)
    if proof is None or not verify_inclusion(proof.leaf.hash, proof.index, seal.event_count, proof.path, root):
        raise SealBroken(f"Events received on {day} are not as they were sealed. Ask the operator to look into it.")
    return proof


def _day_of_receipt(organisation: Organisation, key: UUID) -> date:
    event = Event.objects.filter(organisation=organisation, key=key).values("batch_id", "receipt_month").first()
    batch = (
        event
        and IngestBatch.objects.filter(
            organisation=organisation, pk=event["batch_id"], receipt_month=event["receipt_month"]
        ).first()
    )
    if not batch:
        raise UnknownEvent
    return batch.received_at.astimezone(UTC).date()


def _proof(organisation: Organisation, seal: Seal, key: UUID) -> Proof | None:
    """None where the event cannot be found in the tile it belongs to."""
    tiles = SealTile.objects.filter(seal=seal)
    tile = tiles.filter(first_key__lte=key).order_by("-position").first()
    if tile is None:
        return None
    following = tiles.filter(position=tile.position + 1).values_list("first_key", flat=True).first()
    leaves = leaves_between(organisation.pk, seal.day, tile.first_key, following)
    place = next((place for place, leaf in enumerate(leaves) if leaf.key == key), None)
    if place is None:
        return None
    roots = [bytes(root) for root in tiles.order_by("position").values_list("root", flat=True)]
    path = audit_path([leaf.hash for leaf in leaves], place) + audit_path(roots, tile.position)
    return Proof(leaves[place], tile.position * TILE_LEAVES + place, tuple(path), seal)


def proof_facts(proof: Proof, organisation: Organisation) -> dict[str, Any]:
    """A proof as the API and the page give it out: all that is needed to check it, hashes in hexadecimal."""
    return {
        "organisation": organisation.public_id,
        "source": proof.leaf.source,
        "id": proof.leaf.event_id,
        "leaf": proof.leaf.content.decode(),
        "leaf_hash": proof.leaf.hash.hex(),
        "index": proof.index,
        "size": proof.seal.event_count,
        "path": [node.hex() for node in proof.path],
        "seal": seal_facts(proof.seal),
    }


def seal_facts(seal: Seal) -> dict[str, Any]:
    """A seal as every way out shows it."""
    return {
        "id": seal.public_id,
        "day": seal.day.isoformat(),
        "event_count": seal.event_count,
        "root": seal.root,
        "previous_digest": seal.previous_digest,
        "digest": seal.digest,
        "sealed_at": instant(seal.sealed_at),
    }
