"""Telling people by e-mail what others did to their organisation's keys and tokens. No message holds a secret.

A verb leaves notices in the transaction of its act; a sweep sends them, all that wait for one person about one
organisation in one message. After a message the next waits a while, unless it is urgent, so that software that makes
keys by the hundred fills nobody's mailbox.
"""

import logging
from datetime import datetime, timedelta

from django.db import transaction
from django.db.models import Q, QuerySet

from accounts.emails import send_notices
from accounts.models import AuditEntry, Membership, Notice, Role, User

logger = logging.getLogger(__name__)

# Acts of which an organisation's owners and admins hear, and how a message says them.
TOLD = {
    "api_key.created": "made the key",
    "api_key.rotated": "gave a new secret to the key",
    "api_key.revoked": "revoked the key",
    "api_key.leaked": "showed that somebody else holds the key",
    "access_token.created": "made the access token",
    "access_token.revoked": "revoked the access token",
    "access_token.leaked": "showed that somebody else holds the access token",
    "service_token.leaked": "showed that somebody else holds the service token",
}
TOLD_ROLES = (Role.OWNER, Role.ADMIN)
PAUSE = timedelta(minutes=15)
FIRST_RETRY = timedelta(minutes=2)
MOST_TRIES = 12
MOST_MESSAGES = 100
# Acts told in one message; of more than these it gives the number.
MOST_ACTS = 25
# Dropped in one statement.
MOST_FORGOTTEN = 5000


def leave_notices(entry: AuditEntry, *, maker: User | None = None, is_urgent: bool = False) -> None:
    """For everybody who is to hear of this act: owners, admins and whoever made the thing, but not who did the act.

    Without an organisation the operators are told. Urgent ones go also to those who want no notices.
    """
    if entry.action not in TOLD:
        return
    people = _operators() if entry.organisation_id is None else _members(entry, maker)
    people = people.filter(is_active=True)
    if entry.actor is not None:
        people = people.exclude(pk=entry.actor.pk)
    if not is_urgent:
        people = people.filter(wants_key_notices=True)
    Notice.objects.bulk_create([Notice(entry=entry, user=user, is_urgent=is_urgent) for user in people])


def send_due(*, now: datetime) -> int:
    """Send what waits, oldest first; how many messages went out. One refused address holds up nobody else."""
    waiting = Notice.objects.due(now).filter(tries__lt=MOST_TRIES).order_by("pk")
    pairs = list(dict.fromkeys(waiting.values_list("user_id", "entry__organisation_id")[: MOST_MESSAGES * MOST_ACTS]))
    return sum(_send(user_id, organisation_id, now) for user_id, organisation_id in pairs[:MOST_MESSAGES])


def forget_before(instant: datetime) -> int:
    """Drop notices of long ago: those that went out, and those that were given up. The acts stay in the audit log."""
    settled = Notice.objects.filter(created_at__lt=instant).exclude(sent_at=None, tries__lt=MOST_TRIES)
    forgotten, is_full = 0, True
    while is_full:
        batch = list(settled.values_list("pk", flat=True)[:MOST_FORGOTTEN])
        forgotten += Notice.objects.filter(pk__in=batch).delete()[0]
        is_full = len(batch) == MOST_FORGOTTEN
    return forgotten


@transaction.atomic
def _send(user_id: int, organisation_id: int | None, now: datetime) -> bool:
    about: dict[str, int | None] = {"user": user_id, "entry__organisation": organisation_id}
    rows = Notice.objects.filter(**about, sent_at=None).select_related("entry__organisation", "entry__actor", "user")
    notices = list(rows.select_for_update(of=("self",), skip_locked=True).order_by("pk"))
    if not notices or _is_too_soon(notices, now):
        return False
    mine = Notice.objects.filter(pk__in=[notice.pk for notice in notices])
    try:
        send_notices(
            notices[0].user,
            [(notice.entry, TOLD[notice.entry.action]) for notice in notices[:MOST_ACTS]],
            more=max(0, len(notices) - MOST_ACTS),
            is_urgent=any(notice.is_urgent for notice in notices),
        )
    except OSError as error:
        tries = max(notice.tries for notice in notices) + 1
        logger.warning("Notices to user %s were not taken: %s", user_id, error)
        mine.update(tries=tries, next_try_at=now + FIRST_RETRY * 2 ** (tries - 1))
        return False
    mine.update(sent_at=now)
    return True


def _is_too_soon(notices: list[Notice], now: datetime) -> bool:
    if any(notice.is_urgent for notice in notices):
        return False
    last = Notice.objects.filter(user=notices[0].user, entry__organisation=notices[0].entry.organisation)
    return last.filter(sent_at__gt=now - PAUSE).exists()


def _members(entry: AuditEntry, maker: User | None) -> QuerySet[User]:
    told = Membership.objects.filter(Q(role__in=TOLD_ROLES) | Q(user=maker), organisation=entry.organisation_id)
    return User.objects.filter(pk__in=told.values("user_id"))


def _operators() -> QuerySet[User]:
    return User.objects.filter(is_superuser=True)
