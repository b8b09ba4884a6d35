"""Alerts: noticing that a share of a limit is used or that today is unlike other days, and telling it once.

A crossing is a row that can exist once; whoever makes it leaves the messages in the same transaction, so that nothing
is told twice whatever runs at once. When it is over that is told too. Only limits of a day and longer are watched:
shorter ones are rate limits, which are there to be reached.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, time, timedelta
from decimal import Decimal
from statistics import median
from zoneinfo import ZoneInfo

from django.db import connection, transaction
from django.db.models import Q
from django.http import HttpRequest

from accounts.audit import Actor, record
from accounts.errors import DomainError
from accounts.models import Organisation
from accounts.signed_posts import require_public
from metering import reports
from metering.buckets import midnight
from metering.limits_page import limit_in_words
from metering.models import Alert, AlertKind, AlertMessage, AlertSettings, Channel, Quota
from metering.quarter_hours import QUARTER_HOUR, floor

DIGEST_AT = time(8)
USUAL_DAYS = 14
LEAST_USUAL_DAYS = 5
MOST_CROSSINGS = 500

# Shares of limits that are used and not told yet; `allowed` has what was added for now. Nothing has no shares.
CROSSED = """
SELECT q.id, w.subject, w.starts_at, t.percent, w.used, q.allowed
FROM (
    SELECT q.*, q.amount + coalesce((SELECT sum(i.amount) FROM metering_quotaincrease i
                                     WHERE i.quota_id = q.id AND i.starts_at <= %(now)s AND i.ends_at > %(now)s), 0)
           AS allowed
    FROM metering_quota q
    WHERE q.archived_at IS NULL AND q.measure <> 'concurrent' AND q.window NOT IN ('minute', 'hour')
) AS q
CROSS JOIN LATERAL unnest(q.thresholds) AS t (percent)
JOIN quota_window w ON w.organisation_id = q.organisation_id AND w.quota_id = q.id
WHERE w.starts_at <= %(now)s AND (w.ends_at IS NULL OR w.ends_at > %(now)s)
  AND w.used > 0 AND q.allowed > 0 AND w.used * 100 >= t.percent * q.allowed
  AND NOT EXISTS (
    SELECT FROM metering_alert a WHERE a.organisation_id = q.organisation_id AND a.quota_id = q.id
      AND a.subject = w.subject AND a.window_start = w.starts_at AND a.threshold = t.percent)
ORDER BY q.id, w.subject, t.percent LIMIT %(limit)s"""

# Alerts of limits that are over: the window ended, the limit was lifted or raised, or use was taken back.
OVER = """
SELECT a.id FROM metering_alert a
JOIN metering_quota q ON q.id = a.quota_id
LEFT JOIN quota_window w ON w.organisation_id = a.organisation_id AND w.quota_id = a.quota_id
                        AND w.subject = a.subject AND w.starts_at = a.window_start
WHERE a.recovered_at IS NULL AND a.kind = 'quota'
  AND (q.archived_at IS NOT NULL OR w.quota_id IS NULL OR w.ends_at <= %(now)s
       OR w.used * 100 < a.threshold * (q.amount + coalesce((
            SELECT sum(i.amount) FROM metering_quotaincrease i
            WHERE i.quota_id = q.id AND i.starts_at <= %(now)s AND i.ends_at > %(now)s), 0)))
LIMIT %(limit)s"""


class QuietHoursIncomplete(DomainError):
    code = "quiet_hours_incomplete"
    status = 422
    sentence = "Quiet hours need a beginning and an end, and the two must differ."


@dataclass(frozen=True, slots=True)
class Watched:
    """What one round noticed."""

    crossed: int
    recovered: int


def watch(now: datetime) -> Watched:
    """Notice what was crossed and what is over since the last round, of all organisations."""
    with connection.cursor() as cursor:
        cursor.execute(CROSSED, {"now": now, "limit": MOST_CROSSINGS})
        crossed = cursor.fetchall()
        cursor.execute(OVER, {"now": now, "limit": MOST_CROSSINGS})
        over = [row[0] for row in cursor.fetchall()]
    told = sum(_cross(*row, now=now) for row in crossed)
    return Watched(told, sum(_recover(pk, now) for pk in over))


def watch_changes(now: datetime) -> int:
    """Notice organisations that have used far more today than on a usual day; answers how many were told."""
    wanted = AlertSettings.objects.exclude(change_percent=None).select_related("organisation")
    return sum(_look_at_today(settings, now) for settings in wanted.iterator(200))


def tell_of_credit(
    organisation: Organisation,
    *,
    percent_left: int,
    since: datetime,
    left: Decimal,
    whole: Decimal,
    text: Callable[[], str],
    now: datetime,
) -> bool:
    """Tell that only so much of prepaid credit is left, unless that or less was told since then, or lasts."""
    of_credit = Alert.objects.for_organisation(organisation).filter(kind=AlertKind.CREDIT, threshold__lte=percent_left)
    if of_credit.filter(Q(window_start=since) | Q(recovered_at=None)).exists():
        return False
    alert = Alert(
        organisation=organisation,
        kind=AlertKind.CREDIT,
        window_start=since,
        threshold=percent_left,
        value=left,
        amount=whole,
        text=text(),
        crossed_at=now,
    )
    return _tell(alert, now)


def recover_credit_alerts(
    organisation: Organisation, percents: Collection[int], *, before: datetime, now: datetime
) -> int:
    """Those of these levels are over, as far as they are about credit that came in before; how many."""
    rows = Alert.objects.for_organisation(organisation).filter(kind=AlertKind.CREDIT, recovered_at=None)
    over = rows.filter(threshold__in=percents, window_start__lt=before).order_by("pk").values_list("pk", flat=True)
    return sum(_recover(pk, now) for pk in list(over))


def open_credit_alerts() -> set[int]:
    """The primary keys of organisations whose credit is known to run low."""
    rows = Alert.objects.filter(kind=AlertKind.CREDIT, recovered_at=None)
    return set(rows.values_list("organisation_id", flat=True))


def settings_of(organisation: Organisation) -> AlertSettings:
    """What was chosen, or the defaults, unsaved."""
    return AlertSettings.objects.filter(organisation=organisation).first() or AlertSettings(organisation=organisation)


def change_settings(
    settings: AlertSettings, *, actor: Actor = None, request: HttpRequest | None = None
) -> AlertSettings:
    """Save how alerts are to be told. Raises WebhookAddressRefused and QuietHoursIncomplete."""
    if settings.webhook_url:
        require_public(settings.webhook_url)
    if (settings.quiet_from is None) != (settings.quiet_until is None) or (
        settings.quiet_from is not None and settings.quiet_from == settings.quiet_until
    ):
        raise QuietHoursIncomplete
    with transaction.atomic():
        settings.save()
        record(
            "alerts.changed",
            organisation=settings.organisation,
            actor=actor,
            details={
                "emails": settings.emails,
                "webhook": settings.webhook_url,
                "digest": settings.is_digest,
                "change_percent": settings.change_percent,
            },
            request=request,
        )
    return settings


def _cross(
    quota_id: int, subject: str, start: datetime, percent: int, used: Decimal, allowed: Decimal, *, now: datetime
) -> bool:
    quota = Quota.objects.select_related("meter", "organisation").get(pk=quota_id)
    text = f"{limit_in_words(quota, subject)}: {percent}% of the limit is used, {_words(used)} of {_words(allowed)}."
    return _tell(
        Alert(
            organisation=quota.organisation,
            kind=AlertKind.QUOTA,
            quota=quota,
            subject=subject,
            window_start=start,
            threshold=percent,
            value=used,
            amount=allowed,
            text=text,
            crossed_at=now,
        ),
        now,
    )


def _tell(alert: Alert, now: datetime) -> bool:
    """Keep the crossing and leave its messages, unless somebody else has; whether it was new."""
    with transaction.atomic():
        kept = Alert.objects.bulk_create([alert], ignore_conflicts=True)
        row = Alert.objects.filter(public_id=kept[0].public_id).first()
        if row is None:
            return False
        _leave(row, is_recovery=False, now=now)
    return True


def _recover(pk: int, now: datetime) -> bool:
    with transaction.atomic():
        if not Alert.objects.filter(pk=pk, recovered_at=None).update(recovered_at=now):
            return False
        _leave(Alert.objects.select_related("organisation").get(pk=pk), is_recovery=True, now=now)
    return True


def _leave(alert: Alert, *, is_recovery: bool, now: datetime) -> None:
    settings = settings_of(alert.organisation)
    messages = [
        AlertMessage(alert=alert, channel=Channel.EMAIL, is_recovery=is_recovery, next_try_at=told_at(settings, now))
    ]
    if settings.webhook_url:
        messages.append(AlertMessage(alert=alert, channel=Channel.WEBHOOK, is_recovery=is_recovery, next_try_at=now))
    AlertMessage.objects.bulk_create(messages, ignore_conflicts=True)


def told_at(settings: AlertSettings, now: datetime) -> datetime:
    """When an e-mail about what happens now may go out: at once, after the quiet hours, or with the digest."""
    zone: ZoneInfo = settings.organisation.zone
    local = now.astimezone(zone)
    if settings.is_digest:
        return _next(DIGEST_AT, local, zone)
    quiet_from, quiet_until = settings.quiet_from, settings.quiet_until
    if quiet_from is None or quiet_until is None:
        return now
    clock = local.time()
    is_quiet = (
        quiet_from <= clock < quiet_until if quiet_from < quiet_until else clock >= quiet_from or clock < quiet_until
    )
    return _next(quiet_until, local, zone) if is_quiet else now


def _next(clock: time, local: datetime, zone: ZoneInfo) -> datetime:
    day = local.date() if local.time() < clock else local.date() + timedelta(days=1)
    return datetime.combine(day, clock, zone)


def _look_at_today(settings: AlertSettings, now: datetime) -> bool:
    organisation = settings.organisation
    today = midnight(now.astimezone(organisation.zone).date(), organisation.zone)
    percent = settings.change_percent or 0
    is_told = Alert.objects.filter(organisation=organisation, kind=AlertKind.CHANGE, window_start=today)
    if is_told.exists():
        return False
    usual, so_far = _usual_and_today(organisation, today, now)
    if usual is None or so_far * 100 < usual * percent:
        return False
    text = f"Today {_words(so_far)} tokens were used already: a usual day has {_words(usual)}."
    return _tell(
        Alert(
            organisation=organisation,
            kind=AlertKind.CHANGE,
            window_start=today,
            threshold=percent,
            value=so_far,
            amount=usual,
            text=text,
            crossed_at=now,
            recovered_at=now,
        ),
        now,
    )


def _usual_and_today(organisation: Organisation, today: datetime, now: datetime) -> tuple[Decimal | None, Decimal]:
    """The median of the days with use before today (None: too few), and what today has used."""
    zone = organisation.zone
    first = midnight((today.astimezone(zone) - timedelta(days=USUAL_DAYS)).date(), zone)
    filters = reports.UsageFilter(meters=reports.token_meters())
    days = reports.usage(organisation, start=first, end=today, granularity="day", group_by=(), filters=filters).rows
    rest = reports.usage(
        organisation, start=today, end=floor(now) + QUARTER_HOUR, granularity="total", group_by=(), filters=filters
    ).rows
    so_far = sum((row.value for row in rest), Decimal(0))
    if len(days) < LEAST_USUAL_DAYS:
        return None, so_far
    return Decimal(median(_values(days))), so_far


def _values(rows: Sequence[reports.UsageRow]) -> list[Decimal]:
    return [row.value for row in rows]


def _words(amount: Decimal) -> str:
    """To two places: 1,234.5."""
    text = f"{amount:,.2f}"
    return text.rstrip("0").rstrip(".")
