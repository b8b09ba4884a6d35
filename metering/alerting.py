"""Sending what alerts left to be told: e-mails, all of one organisation in one message, and signed webhooks.

A try is claimed with one conditional update before anything is sent, so that two workers never send the same; a worker
that dies leaves a claim that lapses.
"""

import json
import logging
from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime, timedelta

from django.db.models import F

from accounts.models import Membership, Organisation, Role
from accounts.signed_posts import WebhookAddressRefused, WebhookFailed, post_signed
from metering.alerts import settings_of
from metering.emails import send_alerts
from metering.models import AlertMessage, Channel

logger = logging.getLogger(__name__)

FIRST_PAUSE = timedelta(minutes=1)
LONGEST_PAUSE = timedelta(hours=6)
MOST_TRIES = 12
MOST_MESSAGES = 200
TOLD_ROLES = (Role.OWNER, Role.ADMIN, Role.BILLING)


def send_due(now: datetime) -> int:
    """Send what is due; how many messages went out. What one receiver refuses holds up nobody else."""
    rows = AlertMessage.objects.due(now).filter(tries__lt=MOST_TRIES).select_related("alert__organisation")
    claimed = [message for message in rows[:MOST_MESSAGES] if _claim(message, now)]
    sent = sum(_post(message, now) for message in claimed if message.channel == Channel.WEBHOOK)
    by_organisation: dict[Organisation, list[AlertMessage]] = defaultdict(list)
    for message in claimed:
        if message.channel == Channel.EMAIL:
            by_organisation[message.alert.organisation].append(message)
    return sent + sum(_mail(organisation, messages, now) for organisation, messages in by_organisation.items())


def recipients(organisation: Organisation) -> list[str]:
    """Where e-mails about alerts go."""
    chosen = settings_of(organisation).emails
    members = Membership.objects.filter(organisation=organisation, role__in=TOLD_ROLES, user__is_active=True)
    return list(chosen) or list(members.order_by("pk").values_list("user__email", flat=True))


def payload(message: AlertMessage) -> dict[str, object]:
    """What a webhook is told."""
    alert = message.alert
    return {
        "type": "alert.recovered" if message.is_recovery else "alert.crossed",
        "timestamp": (alert.recovered_at or alert.crossed_at).isoformat(),
        "data": {
            "id": alert.public_id,
            "organisation": alert.organisation.public_id,
            "kind": alert.kind,
            "quota": alert.quota.public_id if alert.quota else None,
            "subject": alert.subject,
            "window_start": alert.window_start.isoformat(),
            "threshold_percent": alert.threshold,
            "value": f"{alert.value.normalize():f}",
            "amount": f"{alert.amount.normalize():f}",
            "message": alert.text,
        },
    }


def _claim(message: AlertMessage, now: datetime) -> bool:
    pause = min(FIRST_PAUSE * 2**message.tries, LONGEST_PAUSE)
    mine = AlertMessage.objects.due(now).filter(pk=message.pk, tries=message.tries)
    return bool(mine.update(tries=F("tries") + 1, next_try_at=now + pause))


def _post(message: AlertMessage, now: datetime) -> bool:
    settings = settings_of(message.alert.organisation)
    body = json.dumps(payload(message)).encode()
    message_id = f"msg_{message.alert.public_id}_{'recovered' if message.is_recovery else 'crossed'}"
    try:
        post_signed(settings.webhook_url, settings.webhook_secret, message_id=message_id, body=body, now=now)
    except (WebhookFailed, WebhookAddressRefused) as error:
        return _failed([message], str(error) or type(error).__name__)
    return _sent([message], now)


def _mail(organisation: Organisation, messages: Sequence[AlertMessage], now: datetime) -> bool:
    try:
        for address in recipients(organisation):
            send_alerts(organisation, address, messages)
    except OSError as error:
        return _failed(messages, str(error))
    return _sent(messages, now)


def _sent(messages: Sequence[AlertMessage], now: datetime) -> bool:
    AlertMessage.objects.filter(pk__in=[message.pk for message in messages]).update(sent_at=now, last_error="")
    return True


def _failed(messages: Sequence[AlertMessage], reason: str) -> bool:
    logger.warning("Alerts of %s could not be sent: %s", messages[0].alert.organisation.public_id, reason)
    AlertMessage.objects.filter(pk__in=[message.pk for message in messages]).update(last_error=reason[:300])
    return False
