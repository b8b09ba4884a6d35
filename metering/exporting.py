"""An organisation's events as files that anybody can check: NDJSON, a manifest with all seals, and the verifier.

Only sealed days are exported, in the order of days and of leaves, so that the verifier reads the file once and keeps
nothing. The same three files are written into a folder by a command and into a ZIP by a page.
"""

import io
import json
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path
from typing import Any

import msgspec
from django.db import transaction

from accounts.errors import DomainError
from accounts.models import Organisation
from metering import verifier, verifier_quantities
from metering.canonical import instant
from metering.leaves import StoredEvent, stream_events
from metering.models import Meter, MeterRevision, Seal, SeriesLimit
from metering.proofs import Proof, proof_facts, seal_facts
from metering.seal_checks import are_kept
from metering.sealing import sealed_through

EVENTS, MANIFEST, VERIFIER = "events.ndjson", "manifest.json", "verify_kilotoken.py"
# How the files are checked, once they lie in one folder.
CHECK_COMMAND = f"python {VERIFIER} {EVENTS} {MANIFEST}"
EVENT, PROOF = "event.json", "proof.json"
# How a single proof is.
CHECK_PROOF_COMMAND = f"python {VERIFIER} proof {EVENT} {PROOF}"
_PIECE_BYTES = 256 * 1024


class NothingSealed(DomainError):
    code = "nothing_sealed"
    sentence = "No day of this range is sealed: there is nothing to export yet."


class EventsDropped(DomainError):
    code = "events_dropped"


@dataclass(frozen=True, slots=True)
class Export:
    """What goes into an export: the sealed days from `first` to `last`, and the whole chain."""

    organisation: Organisation
    first: date
    last: date
    chain: tuple[Seal, ...]

    @property
    def seals(self) -> tuple[Seal, ...]:
        return tuple(seal for seal in self.chain if self.first <= seal.day <= self.last)

    @property
    def event_count(self) -> int:
        return sum(seal.event_count for seal in self.seals)


def plan_export(
    organisation: Organisation, *, now: datetime, first: date | None = None, last: date | None = None
) -> Export:
    """The sealed days of a range, None for its open ends. Raises NothingSealed and EventsDropped."""
    chain = tuple(Seal.objects.for_organisation(organisation).order_by("day"))
    end = min(last or date.max, sealed_through(organisation, now))
    inside = [seal.day for seal in chain if (first is None or seal.day >= first) and seal.day <= end]
    kept = [day for day in inside if are_kept(day)]
    if not inside or (first is None and not kept):
        raise NothingSealed
    if first is not None and kept != inside:
        since = f"; those from {kept[0]} on are" if kept else ""
        raise EventsDropped(f"The events received on {inside[0]} are no longer kept{since}.")
    return Export(organisation, first or kept[0], end, chain)


def manifest_of(export: Export, now: datetime) -> dict[str, Any]:
    """The manifest: which days, every seal of the organisation from the first on, and what the meters read."""
    organisation = export.organisation
    meters = Meter.objects.select_related("part_of").prefetch_related("revisions")
    limits = list(SeriesLimit.objects.filter(organisation=organisation).order_by("starts_at"))
    return {
        "format": verifier.FORMAT,
        "organisation": {"id": organisation.public_id, "slug": organisation.slug, "name": organisation.name},
        "exported_at": instant(now),
        "from": export.first.isoformat(),
        "to": export.last.isoformat(),
        "events": export.event_count,
        "seals": [seal_facts(seal) for seal in export.chain],
        "meters": [_meter_facts(meter, limits) for meter in meters],
    }


def event_lines(export: Export) -> Iterator[bytes]:
    """The events, a line of JSON each; `data` as the database holds it."""
    for seal in export.seals:
        with transaction.atomic():
            for event in stream_events(export.organisation.pk, seal.day):
                yield _line(event)


def write_folder(export: Export, folder: Path, now: datetime) -> list[Path]:
    """Write the three files into a folder, which is made if need be; returns their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / EVENTS).open("wb") as file:
        file.writelines(event_lines(export))
    (folder / MANIFEST).write_bytes(_as_json(manifest_of(export, now)))
    (folder / VERIFIER).write_bytes(verifier_source())
    return [folder / name for name in (EVENTS, MANIFEST, VERIFIER)]


def zip_pieces(export: Export, now: datetime) -> Iterator[bytes]:
    """The three files as a ZIP, piece by piece, in bounded memory."""
    pieces = _Pieces()
    with zipfile.ZipFile(pieces, "w", zipfile.ZIP_DEFLATED, compresslevel=6) as archive:  # type: ignore[call-overload]
        archive.writestr(MANIFEST, _as_json(manifest_of(export, now)))
        archive.writestr(VERIFIER, verifier_source())
        with archive.open(EVENTS, "w", force_zip64=True) as file:
            for line in event_lines(export):
                file.write(line)
                if pieces.size > _PIECE_BYTES:
                    yield pieces.take()
    yield pieces.take()


def proof_zip(proof: Proof, organisation: Organisation) -> bytes:
    """The event as it was sealed, its proof and the verifier."""
    _, *values = msgspec.json.decode(proof.leaf.content, type=list[msgspec.Raw])
    event = msgspec.json.encode(dict(zip(verifier.LEAF_NAMES, values, strict=True)))
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(EVENT, event + b"\n")
        archive.writestr(PROOF, _as_json(proof_facts(proof, organisation)))
        archive.writestr(VERIFIER, verifier_source())
    return content.getvalue()


def verifier_source() -> bytes:
    """The script that checks an export with nothing but Python."""
    main, part = (Path(str(module.__file__)).read_text() for module in (verifier, verifier_quantities))
    _, _, body = part.partition("from __future__ import annotations\n")
    before, _, rest = main.partition("# In the script that customers get")
    _, _, after = rest.partition("\n\n")
    return f"{before}{body.strip()}\n\n{after}".encode()


class _Pieces:
    """A file that can only be written to; what was written is taken out in between."""

    def __init__(self) -> None:
        self.parts: list[bytes] = []
        self.size = 0

    def write(self, content: bytes) -> int:
        self.parts.append(bytes(content))
        self.size += len(content)
        return len(content)

    def flush(self) -> None:
        """Nothing is held back."""

    def take(self) -> bytes:
        taken, self.parts, self.size = b"".join(self.parts), [], 0
        return taken


def _line(event: StoredEvent) -> bytes:
    fields = {
        "received_at": instant(event.received_at),
        "source": event.source,
        "id": event.event_id,
        "type": event.type,
        "subject": event.subject,
        "time": instant(event.time),
        "time_assumed": event.time_assumed,
        "data": msgspec.Raw(event.data.encode()),
    }
    return msgspec.json.encode(fields) + b"\n"


def _meter_facts(meter: Meter, limits: list[SeriesLimit]) -> dict[str, Any]:
    bounded = [one for one in limits if one.meter_id == meter.pk]
    return {
        "key": meter.key,
        "event_type": meter.event_type,
        "value_field": meter.value_field,
        "aggregation": meter.aggregation,
        "part_of": meter.part_of.key if meter.part_of else None,
        "archived_at": instant(meter.archived_at) if meter.archived_at else None,
        **_definition(meter),
        "bounded": [{"from": instant(one.starts_at), "until": instant(one.ends_at)} for one in bounded],
        "revisions": [_definition(revision) for revision in meter.revisions.all()],
    }


def _definition(one: Meter | MeterRevision) -> dict[str, Any]:
    return {
        "effective_from": instant(one.effective_from),
        "dimensions": one.dimensions,
        "tiers": one.tiers,
        "filters": one.filters,
    }


def _as_json(facts: dict[str, Any]) -> bytes:
    return json.dumps(facts, indent=1, ensure_ascii=False).encode() + b"\n"
