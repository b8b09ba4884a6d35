"""What beat starts and when. Every task here is a sweep: it finds what a lost message left behind.

Running one twice, late or on two beats at once is harmless; the rows are the queue.
"""

from datetime import timedelta
from typing import Any

from celery.schedules import crontab

SCHEDULE: dict[str, dict[str, Any]] = {
    # Totals follow events within seconds even if every message is lost.
    "fold pending batches": {"task": "metering.tasks.fold_pending_batches", "schedule": timedelta(seconds=2)},
    # What a call held that was never reported is free again soon after its time.
    "expire holds": {"task": "metering.tasks.expire_holds", "schedule": timedelta(seconds=15)},
    # Who set a limit hears of it within a minute.
    "watch limits": {"task": "metering.tasks.watch_limits", "schedule": timedelta(seconds=30)},
    # A day that is unlike others is seen well before it ends.
    "watch changes": {"task": "metering.tasks.watch_changes", "schedule": timedelta(minutes=15)},
    # Once a day is enough for a list that only people read.
    "forget denials": {"task": "metering.tasks.forget_denials", "schedule": crontab(hour=4, minute=10)},
    # After the comparison of counters, which has then seen once more what goes; daily keeps a night's share small.
    # Old changes of billed usage go with them.
    "prune holds": {"task": "metering.tasks.prune_holds", "schedule": crontab(hour=5, minute=5)},
    # At night, like the totals they go with.
    "compare counters": {"task": "metering.tasks.compare_counters", "schedule": crontab(hour=3, minute=50)},
    # Days follow a change of an organisation's time zone; until then reports read quarter hours.
    "rebuild moved days": {"task": "metering.tasks.rebuild_moved_days", "schedule": timedelta(minutes=5)},
    # Partitions are made months ahead; hourly, so that a day without beat does no harm.
    "create event partitions": {"task": "metering.tasks.create_event_partitions", "schedule": timedelta(hours=1)},
    # A label with ever new values is stopped within a minute, and at once where a single fold brings many.
    "bound series": {"task": "metering.tasks.bound_series", "schedule": timedelta(minutes=1)},
    # Backfills go on within a minute of whatever cut them off.
    "run meter backfills": {"task": "metering.tasks.run_meter_backfills", "schedule": timedelta(minutes=1)},
    # At night, when there is least to disturb: totals recomputed from events.
    "compare totals with events": {"task": "metering.tasks.compare_totals", "schedule": crontab(hour=3, minute=20)},
    # Soon after midnight in UTC, past sealing's margin; every hour, so that a night without beat is made up for.
    "seal finished days": {"task": "metering.tasks.seal_finished_days", "schedule": crontab(minute=20)},
    # After the comparison, which has then seen the events once more; daily, since what may not go today may tomorrow.
    "drop expired events": {"task": "metering.tasks.drop_expired_events", "schedule": crontab(hour=4, minute=40)},
    # Uploaded usage files whose message was lost, or whose worker died.
    "carry on usage imports": {"task": "metering.tasks.carry_on_usage_imports", "schedule": timedelta(minutes=1)},
    # Periods end at any quarter hour, since anchors do.
    "close ended periods": {"task": "billing.tasks.close_ended_periods", "schedule": timedelta(minutes=5)},
    # Plans take effect at any quarter hour; their limits should then not be long in coming.
    "write due limits": {"task": "billing.tasks.write_due_limits", "schedule": timedelta(minutes=1)},
    # A hundred subscribers a minute are moved to another version, where a move runs.
    "work on plan moves": {"task": "billing.tasks.work_on_plan_moves", "schedule": timedelta(minutes=1)},
    # A trial ends at any quarter hour; what is charged does not wait for this, only what the state says.
    "end trials": {"task": "billing.tasks.end_trials", "schedule": timedelta(minutes=5)},
    # Three days before the end of a trial; hourly, so that none is late by much.
    "remind of trials": {"task": "billing.tasks.remind_of_trials", "schedule": timedelta(hours=1)},
    # Weeks after the end of a subscription, when no late usage can come any more: the day does not matter.
    "settle ended subscriptions": {
        "task": "billing.tasks.settle_ended_subscriptions",
        "schedule": crontab(minute=35),
    },
    # At night: sessions that ended long ago and were only ever added to.
    "clear expired sessions": {"task": "accounts.tasks.clear_expired_sessions", "schedule": crontab(hour=2, minute=10)},
    # What others did to keys and tokens; often, since a leaked key is told this way too.
    "send notices about keys": {"task": "accounts.tasks.send_notices", "schedule": timedelta(seconds=30)},
    # At night: nobody reads them, the audit log keeps the acts.
    "forget notices": {"task": "accounts.tasks.forget_notices", "schedule": crontab(hour=2, minute=20)},
    # E-mails about new invoices that did not go out at once.
    "announce invoices": {"task": "billing.tasks.announce_invoices", "schedule": timedelta(minutes=1)},
    # Finalised invoices that are not at Stripe yet.
    "push finalised invoices": {"task": "billing.tasks.push_finalised_invoices", "schedule": timedelta(seconds=30)},
    # Webhooks that were stored and not applied.
    "apply stripe events": {"task": "billing.tasks.apply_stripe_events", "schedule": timedelta(seconds=30)},
    # Webhooks that were never delivered.
    "fetch missed stripe events": {"task": "billing.tasks.fetch_missed_stripe_events", "schedule": timedelta(hours=1)},
    # Admission quotes by these. Plans write theirs at once; new prices in the book follow within a minute.
    "write price estimates": {"task": "billing.tasks.write_price_estimates", "schedule": timedelta(minutes=1)},
    # Each forecast is made anew once an hour; more often, so that a new plan's first one is not an hour away.
    "make forecasts": {"task": "billing.tasks.make_forecasts", "schedule": timedelta(minutes=5)},
    # The balance leaves expired credit out by itself; this books it.
    "expire credits": {"task": "billing.tasks.expire_credits", "schedule": timedelta(minutes=5)},
    # At night, beside the other comparisons.
    "check credits": {"task": "billing.tasks.check_credits", "schedule": crontab(hour=3, minute=35)},
    # Periods begin at any quarter hour, and the credit that comes with them is then wanted.
    "grant plan credit": {"task": "billing.tasks.grant_plan_credit", "schedule": timedelta(minutes=1)},
    # What prepaid organisations may spend, at what their usage really costs; also what expired or began since.
    "tell credit limits": {"task": "billing.tasks.tell_credit_limits", "schedule": timedelta(minutes=1)},
    # Who prepaid hears of it before calls are refused.
    "watch credit": {"task": "billing.tasks.watch_credit", "schedule": timedelta(minutes=1)},
    # Payments for credit whose webhook was lost; a customer may be waiting for it.
    "check credit purchases": {"task": "billing.tasks.check_credit_purchases", "schedule": timedelta(minutes=1)},
    # Receipts that did not go out at once.
    "send receipts": {"task": "billing.tasks.send_receipts", "schedule": timedelta(minutes=1)},
    # At night, after the day's last usage is in the totals; operators look at whole days.
    "compute margins": {"task": "billing.tasks.compute_margins", "schedule": crontab(hour=2, minute=30)},
}
