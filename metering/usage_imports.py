"""Uploaded usage files: kept, looked at, confirmed, and imported a step at a time by whichever worker is free.

An import that is cut off goes on where it was; the step that was under way is done again and changes nothing, since
every row has its identity. The content is never in memory whole, and is deleted when the import has ended.
"""

import csv
import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from io import StringIO
from itertools import batched, dropwhile
from pathlib import Path
from tempfile import TemporaryDirectory

from django.conf import settings
from django.db import transaction
from django.db.models import F
from django.http import HttpRequest
from django.utils.text import get_valid_filename

from accounts.audit import Actor, record
from accounts.errors import DomainError
from accounts.models import Organisation
from metering import importing
from metering.catalogue import Rules, rules_by_event_type
from metering.drafts import Draft, Refusal, body_of
from metering.formats import usage_files
from metering.intake import Verdict
from metering.judging import Unacceptable, fed_meters
from metering.models import UsageImport, UsageImportPiece, UsageImportRefusal
from metering.rejections import storable

PIECE_BYTES = 2**20
# Pieces that a preview of a text file reads; Parquet has its directory at the end.
PREVIEW_PIECES = 4
PREVIEW_ROWS = 10
# A worker that has not said anything for this long is taken for dead.
LEASE = timedelta(minutes=5)
# What nobody confirms within this time is cancelled.
FORGOTTEN_AFTER = timedelta(days=7)
# Refused lines kept for the download; all are among the rejected events.
MOST_REFUSALS = 100_000
USUAL_TYPE = "ai.usage"
State = UsageImport.State
type Clock = Callable[[], datetime]


class FileTooLarge(DomainError):
    code = "file_too_large"
    status = 413


class NotWaiting(DomainError):
    code = "import_not_waiting"
    sentence = "This import was confirmed or has ended already."


class ColumnMissing(DomainError):
    code = "column_missing"


@dataclass(frozen=True, slots=True)
class Terms:
    """What the operator says about a file: field -> column, and what holds for all rows."""

    columns: Mapping[str, str]
    event_type: str = USUAL_TYPE
    model: str = ""
    source: str = ""
    api_key: str = ""
    backfill: bool = False


@dataclass(frozen=True, slots=True)
class PreviewRow:
    """What a line would become. `problem`: why it would be refused; empty: it would not, as far as can be told."""

    line: int
    event: Draft | None
    meters: tuple[str, ...]
    problem: str


def keep_upload(
    organisation: Organisation,
    content: Iterable[bytes],
    *,
    file_name: str,
    now: datetime,
    actor: Actor,
    request: HttpRequest | None = None,
) -> UsageImport:
    """Put a file away, with the columns that its names suggest. Raises FileTooLarge and UnusableFile."""
    name = get_valid_filename(Path(file_name).name or "file")[-255:]
    with transaction.atomic(), TemporaryDirectory() as folder:
        row = UsageImport.objects.create(
            organisation=organisation,
            file_name=name,
            format=usage_files.format_of(name),
            event_type=USUAL_TYPE,
            byte_count=0,
            lines=0,
            created_at=now,
        )
        path = Path(folder) / "content"
        row.digest, row.byte_count = _put_away(row, content, path)
        found = usage_files.survey(path, name=name, digest=row.digest)
        row.lines, row.present, row.columns = found.lines, list(found.present), dict(found.columns)
        row.save()
        facts = {"digest": row.digest, "bytes": row.byte_count}
        _record("uploaded", row, facts, actor=actor, request=request)
    return row


def preview(row: UsageImport, terms: Terms) -> list[PreviewRow]:
    """The first rows as they would be read; raises UnusableFile, ColumnMissing and UnknownKey."""
    _require_columns(row, terms)
    owner = importing.owner_of_rows(row.organisation, terms.api_key or None)
    rules = rules_by_event_type()
    pieces = None if row.format == "parquet" else PREVIEW_PIECES
    with _on_disk(row, pieces) as path:
        rows = _drafts(row, terms, path, owner.name)
        first = [one for _, one in zip(range(PREVIEW_ROWS), rows, strict=False)]
    return [_preview_row(line, draft, rules) for line, draft in first]


def confirm(
    row: UsageImport, terms: Terms, *, now: datetime, actor: Actor, request: HttpRequest | None = None
) -> UsageImport:
    """Let the import begin. Raises NotWaiting, ColumnMissing and UnknownKey."""
    _require_columns(row, terms)
    importing.owner_of_rows(row.organisation, terms.api_key or None)
    said = {
        "columns": dict(terms.columns),
        "event_type": terms.event_type,
        "model": terms.model,
        "source": terms.source,
        "api_key": terms.api_key,
        "backfill": terms.backfill,
    }
    with transaction.atomic():
        waiting = UsageImport.objects.filter(pk=row.pk, state=State.UPLOADED)
        if not waiting.update(state=State.WAITING, confirmed_at=now, **said):
            raise NotWaiting
        row.refresh_from_db()
        _record("confirmed", row, said, actor=actor, request=request)
    return row


def cancel(row: UsageImport, *, now: datetime, actor: Actor, request: HttpRequest | None = None) -> bool:
    """Stop an import; what was committed stays. Returns whether there was anything to stop."""
    with transaction.atomic():
        going = UsageImport.objects.filter(pk=row.pk, state__in=(State.UPLOADED, State.WAITING, State.RUNNING))
        if not going.update(state=State.CANCELLED, finished_at=now, leased_until=None):
            return False
        row.refresh_from_db()
        row.pieces.all().delete()
        _record("cancelled", row, {"lines_done": row.lines_done}, actor=actor, request=request)
    return True


def cancel_forgotten(*, now: datetime) -> int:
    """Cancel uploads that nobody confirmed; returns how many."""
    forgotten = UsageImport.objects.filter(state=State.UPLOADED, created_at__lt=now - FORGOTTEN_AFTER)
    return sum(cancel(row, now=now, actor=None) for row in forgotten[:100])


def refused_lines_csv(row: UsageImport) -> Iterator[str]:
    """The refused lines as CSV: line, verdict, reason, detail, and the event as JSON."""
    yield _csv_line(["line", "verdict", "reason", "detail", "event"])
    for one in row.refusals.order_by("line").iterator(chunk_size=1000):
        yield _csv_line([one.line, one.verdict, one.reason, one.detail, one.body])


def _csv_line(cells: Sequence[object]) -> str:
    text = StringIO(newline="")
    csv.writer(text).writerow(cells)
    return text.getvalue()


# --- Importing --------------------------------------------------------------------------------------------------------


def carry_on(row: UsageImport, *, clock: Clock, until: datetime) -> bool:
    """Import from where it was until it has ended, or until that time; returns whether it has ended.

    Returns True also where another worker is at it, or there is nothing to do.
    """
    now = clock()
    if not UsageImport.objects.due(now).filter(pk=row.pk).update(state=State.RUNNING, leased_until=now + LEASE):
        return True
    row.refresh_from_db()
    try:
        with _on_disk(row, None) as path:
            is_finished = _import_rows(row, path, clock=clock, until=until)
    except DomainError as error:
        _end(row, State.FAILED, now=clock(), error=error.sentence)
        return True
    if is_finished:
        _end(row, State.DONE, now=clock())
    return is_finished


def _import_rows(row: UsageImport, path: Path, *, clock: Clock, until: datetime) -> bool:
    owner = importing.owner_of_rows(row.organisation, row.api_key or None)
    terms = Terms(row.columns, row.event_type, row.model, row.source, row.api_key, row.backfill)
    rows = _drafts(row, terms, path, owner.name)
    ahead = dropwhile(lambda one: one[0] <= row.lines_done, rows)
    for step in batched(ahead, importing.COMMIT_ROWS):
        verdicts = importing.take_rows(step, owner=owner, backfill=row.backfill, now=clock())
        now = clock()
        if not _note(row, step, verdicts, leased_until=now + LEASE if now < until else None):
            return True
        if now >= until:
            return False
    return True


def _note(
    row: UsageImport,
    step: Sequence[tuple[int, Draft | Refusal]],
    verdicts: Sequence[Verdict],
    *,
    leased_until: datetime | None,
) -> bool:
    """Write down what became of a step; False: the import was cancelled."""
    tally = importing.Tally()
    refusals = []
    for (line, draft), verdict in zip(step, verdicts, strict=True):
        tally.add(line, verdict)
        if verdict.reason:
            refusals.append(_refusal(row, line, draft, verdict))
    with transaction.atomic():
        running = UsageImport.objects.filter(pk=row.pk, state=State.RUNNING)
        counts = {name: F(name) + getattr(tally, name) for name in ("accepted", "duplicates", "conflicts", "rejected")}
        if not running.update(**counts, lines_done=step[-1][0], leased_until=leased_until):
            return False
        room = MOST_REFUSALS - row.refusals.count() if refusals else 0
        UsageImportRefusal.objects.bulk_create(refusals[: max(0, room)], ignore_conflicts=True)
    return True


def _refusal(row: UsageImport, line: int, draft: Draft | Refusal, verdict: Verdict) -> UsageImportRefusal:
    body = draft.body if isinstance(draft, Refusal) else body_of(draft)
    return UsageImportRefusal(
        usage_import=row,
        line=line,
        verdict=verdict.verdict,
        reason=verdict.reason or "",
        detail=storable(verdict.detail or ""),
        body=storable(body.decode(errors="replace")),
    )


def _end(row: UsageImport, state: str, *, now: datetime, error: str = "") -> None:
    with transaction.atomic():
        running = UsageImport.objects.filter(pk=row.pk, state=State.RUNNING)
        if not running.update(state=state, finished_at=now, leased_until=None, error=error):
            return
        row.refresh_from_db()
        row.pieces.all().delete()
        facts = {name: getattr(row, name) for name in ("accepted", "duplicates", "conflicts", "rejected")}
        _record("finished" if state == State.DONE else state, row, facts | ({"error": error} if error else {}))


# --- Content ----------------------------------------------------------------------------------------------------------


def _put_away(row: UsageImport, content: Iterable[bytes], path: Path) -> tuple[str, int]:
    """Write the content into pieces and into a file; its digest and length."""
    hashed, size, position = hashlib.sha256(), 0, 0
    with path.open("wb") as file:
        for piece in _pieces(content):
            size += len(piece)
            if size > settings.USAGE_FILE_MAX_BYTES:
                limit = settings.USAGE_FILE_MAX_BYTES // 2**20
                raise FileTooLarge(f"The file has more than {limit} MiB. Import it with the command import_usage.")
            hashed.update(piece)
            file.write(piece)
            UsageImportPiece.objects.create(usage_import=row, position=position, content=piece)
            position += 1
    return hashed.hexdigest(), size


def _pieces(content: Iterable[bytes]) -> Iterator[bytes]:
    """The same bytes, in pieces of one size."""
    kept = bytearray()
    for chunk in content:
        kept += chunk
        while len(kept) >= PIECE_BYTES:
            yield bytes(kept[:PIECE_BYTES])
            del kept[:PIECE_BYTES]
    if kept:
        yield bytes(kept)


@contextmanager
def _on_disk(row: UsageImport, most_pieces: int | None) -> Iterator[Path]:
    """The content, or its beginning, as a file for as long as the block lasts."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "content"
        pieces = row.pieces.order_by("position").values_list("content", flat=True)
        with path.open("wb") as file:
            for piece in pieces[:most_pieces].iterator(chunk_size=1):
                file.write(piece)
        yield path


def _drafts(row: UsageImport, terms: Terms, path: Path, subject: str) -> Iterator[tuple[int, Draft | Refusal]]:
    file = usage_files.UsageFile(path, row.format, row.digest, row.lines, terms.columns, tuple(row.present))
    return usage_files.drafts(
        file,
        type=terms.event_type,
        subject=subject,
        model=terms.model or None,
        source=terms.source or None,
    )


def _require_columns(row: UsageImport, terms: Terms) -> None:
    if missing := sorted(set(terms.columns.values()) - set(row.present)):
        raise ColumnMissing(f"The file has no column {', '.join(missing)}.")
    if not {"time", "corrects_id"} & terms.columns.keys():
        raise ColumnMissing("Say which column holds the time.")


def _preview_row(line: int, draft: Draft | Refusal, rules: Mapping[str, Rules]) -> PreviewRow:
    if isinstance(draft, Refusal):
        return PreviewRow(line, None, (), draft.detail)
    try:
        meters = fed_meters(draft.data, draft.time, rules.get(draft.type, ())) if draft.time else ()
    except Unacceptable as refusal:
        return PreviewRow(line, draft, (), refusal.detail)
    return PreviewRow(line, draft, meters, "")


def _record(
    act: str, row: UsageImport, facts: Mapping[str, object], *, actor: Actor = None, request: HttpRequest | None = None
) -> None:
    record(
        f"usage_import.{act}",
        organisation=row.organisation,
        actor=actor,
        subject_id=row.public_id,
        subject_label=row.file_name,
        details=facts,
        request=request,
    )
