"""What a change of plan, or cancelling, would do to the running bill, before anybody decides. Computes by the formula
of the bill with the change imagined, before credit, which would hide what it costs; writes nothing."""

from dataclasses import dataclass
from datetime import datetime

from accounts.remembering import remember, remembering
from billing import schedules
from billing.bills import Bill, BillLine
from billing.invoicing import bill_before_credit
from billing.models import PlanVersion, Subscription, SubscriptionPhase
from billing.models.invoices import LineKind
from billing.open_bills import OpenPeriod
from billing.subscribing import (
    cancellation_takes_effect,
    change_takes_effect,
    require_change_possible,
    require_current,
)


@dataclass(frozen=True, slots=True)
class Outcome:
    """The bill of the running period as it stands, before credit, had the plan changed."""

    takes_effect_at: datetime
    bill: Bill
    # Against the bill without a change; negative where it is less.
    difference_minor: int

    @property
    def fees(self) -> list[BillLine]:
        return [line for line in self.bill.lines if line.kind == LineKind.FLAT_FEE]


@dataclass(frozen=True, slots=True)
class ChangePreview:
    unchanged: Bill
    at_once: Outcome
    at_period_end: Outcome


def preview_change(subscription: Subscription, version: PlanVersion, now: datetime) -> ChangePreview:
    """Raises what `change_plan` raises."""
    require_current(subscription, now)
    require_change_possible(subscription, version, now)
    with remembering(anew=True):
        subscription = schedules.with_terms(subscription)
        begun = [phase for phase in schedules.phases_of(subscription) if phase.starts_at <= now]
        unchanged = _bill_with(subscription, begun, now)
        outcomes = []
        for at_once in (True, False):
            starts_at = change_takes_effect(subscription, now, at_once=at_once)
            kept = [phase for phase in begun if phase.starts_at != starts_at]
            phase = SubscriptionPhase(plan_version=version, starts_at=starts_at, created_at=now)
            bill = _bill_with(subscription, [*kept, phase], now)
            outcomes.append(Outcome(starts_at, bill, bill.total_minor - unchanged.total_minor))
    return ChangePreview(unchanged, *outcomes)


@dataclass(frozen=True, slots=True)
class Ending:
    """When the subscription would end, and the last bill with what was used until now, before credit."""

    ends_at: datetime
    bill: Bill

    @property
    def due_minor(self) -> int:
        """What it charges; credit may pay it."""
        return max(0, self.bill.total_minor)

    @property
    def returned_minor(self) -> int:
        """What it gives back."""
        return self.bill.owed_minor


@dataclass(frozen=True, slots=True)
class CancellationPreview:
    currency: str
    at_once: Ending
    at_period_end: Ending


def preview_cancellation(subscription: Subscription, now: datetime) -> CancellationPreview:
    """Raises what `cancel` raises."""
    require_current(subscription, now)
    with remembering(anew=True):
        subscription = schedules.with_terms(subscription)
        endings = [_ending(subscription, now, at_once=at_once) for at_once in (True, False)]
    return CancellationPreview(subscription.currency, *endings)


def _ending(subscription: Subscription, now: datetime, *, at_once: bool) -> Ending:
    """Commitments are due on the last bill, so it is computed as of its end; changes `ends_at` of the row in hand."""
    subscription.ends_at = cancellation_takes_effect(subscription, now, at_once=at_once)
    period = schedules.period_containing(subscription, now)
    return Ending(subscription.ends_at, OpenPeriod(subscription, period).bill_at(period.end))


def _bill_with(subscription: Subscription, phases: list[SubscriptionPhase], now: datetime) -> Bill:
    """The running bill if these were the phases of the subscription; inside `remembering`."""
    remember(schedules.phases_of, subscription, answer=tuple(phases))
    return bill_before_credit(subscription, now)
