"""Rows of usage files into intake: the one way of the command and of uploads.

Whoever imports commits a step at a time; a step done again changes nothing, since every row has its identity. A file
is put down to one organisation, and rows that name a subject of another are refused.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from accounts.api_keys import Subject, resolve_subjects
from accounts.errors import DomainError
from accounts.models import ApiKey, Organisation
from metering.drafts import Draft, Refusal, body_of
from metering.intake import Verdict, accept
from metering.models.events import RejectionReason

# Rows committed together. An import that was stopped is started again: what is there already is skipped.
COMMIT_ROWS = 1000
# Refused lines told in a tally; all of them are among the rejected events.
LISTED_LINES = 20


class UnknownKey(DomainError):
    code = "unknown_api_key"


@dataclass(frozen=True, slots=True)
class Owner:
    """Whose usage the rows are: how their events name it, and whom that is."""

    name: str
    subject: Subject


@dataclass
class Tally:
    """What became of the rows so far."""

    accepted: int = 0
    duplicates: int = 0
    conflicts: int = 0
    rejected: int = 0
    refused_lines: list[dict[str, Any]] = field(default_factory=list)

    @property
    def rows(self) -> int:
        return self.accepted + self.duplicates + self.conflicts + self.rejected

    def add(self, line: int, verdict: Verdict) -> None:
        match verdict.verdict:
            case "accepted":
                self.accepted += 1
            case "duplicate":
                self.duplicates += 1
            case "conflict":
                self.conflicts += 1
            case "rejected":
                self.rejected += 1
        if verdict.reason and len(self.refused_lines) < LISTED_LINES:
            self.refused_lines.append({"line": line, "reason": verdict.reason, "detail": verdict.detail})


def owner_of_rows(organisation: Organisation, api_key_id: str | None) -> Owner:
    """The organisation itself, or one of its keys; UnknownKey if it has no such key."""
    if api_key_id and not ApiKey.objects.for_organisation(organisation).filter(public_id=api_key_id).exists():
        raise UnknownKey(f"{organisation} has no API key {api_key_id!r}.")
    name = api_key_id or organisation.public_id
    return Owner(name, resolve_subjects([name])[name])


def take_rows(
    rows: Sequence[tuple[int, Draft | Refusal]], *, owner: Owner | None, backfill: bool, now: datetime
) -> list[Verdict]:
    """Commit some rows; a verdict for each. Without an owner the events name their own, whoever that is."""
    drafts = [draft for _, draft in rows]
    is_one = owner is not None and all(isinstance(one, Refusal) or one.subject == owner.name for one in drafts)
    if owner is not None and not is_one:
        drafts = _of_the_owner(drafts, owner)
    subject = owner.subject if owner is not None and is_one else None
    return accept(
        drafts, format="usage_file", service_token_id=None, now=now, backfill=backfill, assume_subject=subject
    )


def _of_the_owner(drafts: Sequence[Draft | Refusal], owner: Owner) -> list[Draft | Refusal]:
    """Without those that are put down to somebody else; who they are is not said."""
    subjects = resolve_subjects({draft.subject for draft in drafts if isinstance(draft, Draft)})
    return [
        draft
        if isinstance(draft, Refusal) or _is_of(subjects.get(draft.subject), owner)
        else Refusal(
            RejectionReason.UNKNOWN_SUBJECT,
            f"The organisation has no API key called {draft.subject[:80]!r}, and is not called so itself.",
            body_of(draft),
            draft.source,
            draft.event_id,
        )
        for draft in drafts
    ]


def _is_of(subject: Subject | None, owner: Owner) -> bool:
    return subject is not None and subject.organisation_id == owner.subject.organisation_id
