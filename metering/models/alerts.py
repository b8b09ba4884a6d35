"""Alerts: what was crossed and when it was over, how an organisation wants to hear of it, and what waits to be sent."""

from datetime import datetime
from typing import Self

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.utils import timezone

from accounts.credentials import new_webhook_secret
from accounts.models import Organisation
from accounts.public_ids import new_public_id
from accounts.tenancy import OrganisationOwned, OrganisationQuerySet
from metering.models.quotas import Quota


def alert_id() -> str:
    return new_public_id("alert")


class AlertKind(models.TextChoices):
    QUOTA = "quota", "Share of a limit"
    CHANGE = "change", "Much more than on a usual day"
    # Noticed by billing, which knows what credit is worth.
    CREDIT = "credit", "Prepaid credit runs low"


class Alert(OrganisationOwned):
    """One crossing. Told once, however long it lasts, and once more when it is over."""

    public_id = models.CharField(max_length=32, unique=True, default=alert_id, editable=False)
    kind = models.CharField(max_length=8, choices=AlertKind)
    # Null: a sudden change belongs to no limit.
    quota = models.ForeignKey(Quota, null=True, on_delete=models.PROTECT, related_name="+")
    # The end user whose counter it is; empty: not one of end users.
    subject = models.CharField(max_length=200, blank=True)
    # Of the window, or the day, in which it was crossed; of credit, when the last came in.
    window_start = models.DateTimeField()
    # Percent of the limit, or of a usual day; of credit, the percent that is left.
    threshold = models.PositiveIntegerField()
    # What was used by then, and of what: the limit, or a usual day. Of credit, what was left.
    value = models.DecimalField(max_digits=60, decimal_places=24)
    amount = models.DecimalField(max_digits=60, decimal_places=24)
    # What people are told.
    text = models.CharField(max_length=500)
    crossed_at = models.DateTimeField()
    # Null while it lasts.
    recovered_at = models.DateTimeField(null=True)

    objects = OrganisationQuerySet["Alert"].as_manager()

    class Meta:
        ordering = ["-crossed_at", "-pk"]
        constraints = [
            models.UniqueConstraint(
                fields=["organisation", "kind", "quota", "subject", "window_start", "threshold"],
                nulls_distinct=False,
                name="alert_once_per_crossing",
            )
        ]

    def __str__(self) -> str:
        return self.text


class AlertSettings(models.Model):
    """How an organisation wants to hear of alerts; without a row: e-mail to owners, admins and billing, at once."""

    organisation = models.OneToOneField(Organisation, on_delete=models.CASCADE, related_name="alert_settings")
    # Empty: owners, admins and billing members.
    emails = ArrayField(models.EmailField(), default=list, blank=True)
    # Empty: none.
    webhook_url = models.URLField(max_length=500, blank=True)
    # Signs what is sent there, as Standard Webhooks have it.
    webhook_secret = models.CharField(max_length=80, default=new_webhook_secret, editable=False)
    # Local hours in which no e-mail is sent; null: none. The webhook knows no quiet hours.
    quiet_from = models.TimeField(null=True, blank=True)
    quiet_until = models.TimeField(null=True, blank=True)
    # One e-mail a day, at eight in the morning, rather than one for each.
    is_digest = models.BooleanField(default=False)
    # Tell when today has used this many percent of a usual day; null: never.
    change_percent = models.PositiveIntegerField(null=True, blank=True, default=200)

    class Meta:
        verbose_name_plural = "alert settings"

    def __str__(self) -> str:
        return f"alerts of {self.organisation}"


class Channel(models.TextChoices):
    EMAIL = "email", "E-mail"
    WEBHOOK = "webhook", "Webhook"


class AlertMessageRows(models.QuerySet["AlertMessage"]):
    def due(self, now: datetime) -> Self:
        return self.filter(sent_at=None, next_try_at__lte=now)


class AlertMessage(models.Model):
    """One thing to tell on one channel. The row is the queue."""

    alert = models.ForeignKey(Alert, on_delete=models.CASCADE, related_name="messages")
    channel = models.CharField(max_length=8, choices=Channel)
    # False: it was crossed.
    is_recovery = models.BooleanField(default=False)
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    next_try_at = models.DateTimeField()
    tries = models.PositiveSmallIntegerField(default=0)
    # Null: not sent yet.
    sent_at = models.DateTimeField(null=True)
    last_error = models.CharField(max_length=300, blank=True)

    objects = AlertMessageRows.as_manager()

    class Meta:
        ordering = ["pk"]
        constraints = [models.UniqueConstraint(fields=["alert", "channel", "is_recovery"], name="alert_message_once")]
        indexes = [models.Index(fields=["next_try_at"], condition=models.Q(sent_at=None), name="alert_message_waiting")]

    def __str__(self) -> str:
        return f"{self.alert} by {self.channel}"
