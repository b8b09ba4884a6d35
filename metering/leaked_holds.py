"""Holds that ran past their time because nobody reported the call: which they were, and which were reported late.

Reads only. A leak is a gateway that lost a call or a time that was too short; either is worth finding.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from typing import Any

from django.db.models import Q, QuerySet

from accounts.models import ApiKey, Organisation
from metering.admission.deciding import quoted_of
from metering.models import Hold, HoldState

NEVER_REPORTED = Q(state=HoldState.EXPIRED)
# Reported after the hold had ended: it had expired, or the gateway had released it.
REPORTED_LATE = Q(was_late=True)


class Report(StrEnum):
    """What came of a call whose hold ran out."""

    NONE = "none"
    LATE = "late"


@dataclass(frozen=True, slots=True)
class LeakedHold:
    """One leaked hold, with the names that a person knows."""

    hold: Hold
    organisation: Organisation
    # None: the key is gone.
    api_key: ApiKey | None
    estimate: tuple[tuple[str, Decimal], ...]
    # What the estimate was quoted at; None: nothing of it has a price.
    quoted: Decimal | None

    @property
    def is_reported(self) -> bool:
        return self.hold.state == HoldState.SETTLED


def leaked_holds(
    *, organisation: Organisation | None = None, api_key: ApiKey | None = None, report: Report | None = None
) -> QuerySet[Hold]:
    """The latest first: of an organisation and a key, and by what came of them, or all."""
    wanted = {Report.NONE: NEVER_REPORTED, Report.LATE: REPORTED_LATE}
    holds = Hold.objects.filter(wanted[report] if report else NEVER_REPORTED | REPORTED_LATE)
    if organisation is not None:
        holds = holds.filter(organisation=organisation)
    if api_key is not None:
        holds = holds.filter(organisation_id=api_key.organisation_id, api_key_id=api_key.pk)
    return holds.order_by("-ended_at", "id")


def named(holds: Iterable[Hold]) -> list[LeakedHold]:
    """With the organisations and keys of a page of them."""
    holds = list(holds)
    organisations = Organisation.objects.in_bulk({hold.organisation_id for hold in holds})
    keys: dict[Any, ApiKey] = ApiKey.objects.in_bulk({hold.api_key_id for hold in holds})
    return [
        LeakedHold(
            hold,
            organisations[hold.organisation_id],
            keys.get(hold.api_key_id),
            tuple((meter, Decimal(units)) for meter, units in sorted(hold.estimate.items())),
            quoted_of(hold),
        )
        for hold in holds
    ]
