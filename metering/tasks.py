"""The alarm clock of metering: each task is a sweep, safe to run twice at once. The rows are the queue."""

import logging
from collections.abc import Collection
from dataclasses import asdict
from datetime import timedelta

from celery import shared_task
from django.conf import settings
from django.utils import timezone

from accounts.enqueue import enqueue_on_commit
from accounts.models import Organisation
from metering import (
    admission,
    aggregation,
    alerting,
    alerts,
    billed_usage,
    bounding,
    pruning,
    recounting,
    usage_imports,
)
from metering.admission.denials import forget_denials_before
from metering.admission.settling import MOST_EXPIRED
from metering.backfilling import run_backfill
from metering.models import CountersCheck, DroppedMonth, MeterBackfill, Quota, TotalsCheck, UsageImport
from metering.partitions import ensure_event_partitions
from metering.retention import drop_expired_months
from metering.sealing import seal_days

logger = logging.getLogger(__name__)

# Groups folded by one task; then it makes way for others and goes on in a new one.
MOST_GROUPS = 20
# A group smaller than this was all there was. What came in meanwhile waits for the next hint: under a steady stream a
# task would otherwise fold crumbs without end, each for the price of a whole group.
CRUMBS_EVENTS = 10_000
CRUMBS_BATCHES = 200
# One task imports for this long, well within the time that a task has.
IMPORT_FOR = timedelta(minutes=4)
# Days of one organisation that one task makes up for, of each backfill.
BACKFILL_STEPS = 50
# Differences written down with the check; the number of all is kept anyway.
MOST_DETAIL = 100
# Batches of one task; the rest is another's.
PRUNED_BATCHES = 200


@shared_task
def fold_pending_batches() -> None:
    """Add pending batches to the totals until there are next to none, or enough for one task."""
    for _ in range(MOST_GROUPS):
        folded = aggregation.fold_pending(now=timezone.now())
        if folded.crowded:
            _bound(folded.crowded)
        if folded.events < CRUMBS_EVENTS and folded.batches < CRUMBS_BATCHES:
            return
    enqueue_on_commit(fold_pending_batches)


@shared_task
def expire_holds() -> None:
    """Give back what calls held that nobody reported in time."""
    while (count := admission.expire_holds(timezone.now())) == MOST_EXPIRED:
        logger.warning("Gave back what %s holds held past their time.", count)


@shared_task
def watch_limits() -> None:
    """Notice shares of limits that were used, and tell what is due."""
    alerts.watch(timezone.now())
    alerting.send_due(timezone.now())


@shared_task
def watch_changes() -> None:
    """Notice organisations that use far more than on a usual day."""
    alerts.watch_changes(timezone.now())


@shared_task
def forget_denials() -> None:
    """Drop refusals of long ago."""
    forget_denials_before(timezone.now() - timedelta(days=settings.DENIALS_KEPT_DAYS))


@shared_task
def prune_holds() -> None:
    """Forget holds, counters and noted changes of long ago; enough for one task, then the rest in another."""
    pruning.prune_changes(timezone.now())
    if merged := billed_usage.merge_old_changes(timezone.now()):
        logger.info("Merged %s old changes of billed usage into others.", merged)
    pruned = pruning.prune(timezone.now(), batches=PRUNED_BATCHES)
    if pruned.holds or pruned.counters:
        logger.info("Forgot %s holds and %s counters of long ago.", pruned.holds, pruned.counters)
    if not pruned.is_finished:
        enqueue_on_commit(prune_holds)


@shared_task
def compare_counters() -> None:
    """Compare counters of limits with what events and holds say; kept as a CountersCheck and logged when it is bad."""
    started_at = timezone.now()
    organisations = Organisation.objects.filter(pk__in=Quota.objects.active().values("organisation"))
    differences = [one for each in organisations for one in recounting.compare_counters(each, now=started_at)]
    if differences:
        logger.error("%s counters are not what events and holds say: see the counters check.", len(differences))
    CountersCheck.objects.create(
        started_at=started_at,
        finished_at=timezone.now(),
        differences=len(differences),
        detail=[asdict(one) for one in differences[:MOST_DETAIL]],
    )


@shared_task
def rebuild_moved_days() -> None:
    """Make the days of organisations again that changed their time zone."""
    for organisation in aggregation.organisations_with_moved_days():
        rows = aggregation.rebuild_days(organisation)
        logger.info("Made %s rows of days of %s again in %s.", rows, organisation.public_id, organisation.time_zone)


@shared_task
def create_event_partitions() -> None:
    """Make the partitions of the coming months."""
    for name in ensure_event_partitions():
        logger.info("Made partition %s.", name)


@shared_task
def drop_expired_events() -> None:
    """Drop the months that the retention policy no longer keeps."""
    done = drop_expired_months(now=timezone.now())
    for row in done.dropped:
        logger.info("Dropped the %s events received in %s.", row.event_count, row)
    if done.refused:
        logger.error("The events received in %s may not go: %s", f"{done.refused.month:%Y-%m}", done.refused.refusal)


@shared_task
def seal_finished_days() -> None:
    """Seal the days that are over; enough of them for one task, then the rest in another."""
    sealed = seal_days(now=timezone.now())
    for failure in sealed.failures:
        logger.error("A day could not be sealed: %s", failure)
    if sealed.more:
        enqueue_on_commit(seal_finished_days)


@shared_task
def carry_on_usage_imports() -> None:
    """Import uploaded usage files for some minutes, the oldest first; the rest in another task."""
    now = timezone.now()
    usage_imports.cancel_forgotten(now=now)
    for row in UsageImport.objects.due(now).order_by("pk"):
        if not usage_imports.carry_on(row, clock=timezone.now, until=now + IMPORT_FOR):
            enqueue_on_commit(carry_on_usage_imports)
            return


@shared_task
def compare_totals() -> None:
    """Recompute every total from its events; the result is kept as a TotalsCheck and logged when it is bad."""
    started_at, backfills = timezone.now(), MeterBackfill.objects.unfinished().count()
    differences = aggregation.compare_totals()
    if differences:
        logger.error("%s totals are not what their events say: see the totals check.", len(differences))
    TotalsCheck.objects.create(
        started_at=started_at,
        finished_at=timezone.now(),
        events_kept_from=DroppedMonth.objects.events_kept_from(),
        backfills=backfills,
        differences=len(differences),
        detail=[asdict(one) for one in differences[:MOST_DETAIL]],
    )


@shared_task
def run_meter_backfills() -> None:
    """Go on with backfills, some days of each; then make way for others and go on in a new task."""
    more = False
    for backfill in MeterBackfill.objects.unfinished():
        progress = run_backfill(backfill, now=timezone.now(), steps=BACKFILL_STEPS)
        more = more or not progress.is_finished
    if more:
        enqueue_on_commit(run_meter_backfills)


@shared_task
def bound_series() -> None:
    """Bound the meters of organisations that get too many new series, a few at a time; a flood is met while folding."""
    _bound()


def _bound(only: Collection[tuple[int, int]] | None = None) -> None:
    for limit in bounding.bound_series(timezone.now(), only=only):
        logger.warning("%s got %s new series this month: from now on they read (other).", limit, limit.series)
