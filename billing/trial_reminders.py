"""Telling customers that their trial ends soon, once each. `trial_reminded_at` is the queue.

A reminder is claimed with one conditional update before it is sent; one that the mail server does not take is given
back, and tried again by the next sweep.
"""

import logging
from datetime import datetime, timedelta

from billing import schedules
from billing.emails import send_trial_reminder
from billing.models import Subscription
from billing.resting import trial_reminder_due
from billing.subscribing import ensure_billing_details

logger = logging.getLogger(__name__)

AHEAD = timedelta(days=3)


def remind_of_trials(now: datetime) -> int:
    """Send what is due; how many went out."""
    return sum(_remind(pk, now) for pk in trial_reminder_due(now, ahead=AHEAD))


def _remind(pk: int, now: datetime) -> bool:
    unclaimed = Subscription.objects.filter(pk=pk, trial_reminded_at=None)
    if not unclaimed.update(trial_reminded_at=now):
        return False
    subscription = schedules.with_terms(Subscription(pk=pk))
    address = ensure_billing_details(subscription.organisation).email
    assert subscription.trial_ends_at is not None
    plan = schedules.version_at(subscription, subscription.trial_ends_at).plan
    try:
        send_trial_reminder(subscription, plan, address)
    except OSError as error:
        logger.warning("The reminder of the trial of %s was not taken: %s", subscription.public_id, error)
        Subscription.objects.filter(pk=pk, trial_reminded_at=now).update(trial_reminded_at=None)
        return False
    return True
