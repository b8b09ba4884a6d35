"""E-mails that people are to get about acts of others: what waits, what went out."""

from datetime import datetime
from typing import Self

from django.conf import settings
from django.db import models
from django.utils import timezone

from accounts.models.audit import AuditEntry


class NoticeRows(models.QuerySet["Notice"]):
    def due(self, now: datetime) -> Self:
        return self.filter(sent_at=None, next_try_at__lte=now)


class Notice(models.Model):
    """One act that one person is to hear of. Left by the verb, sent by a sweep, several in one message."""

    entry = models.ForeignKey(AuditEntry, on_delete=models.PROTECT, related_name="+")
    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="+")
    # Goes out at once and whether the person wants notices or not: a leaked key.
    is_urgent = models.BooleanField(default=False)
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    next_try_at = models.DateTimeField(default=timezone.now)
    tries = models.PositiveSmallIntegerField(default=0)
    # Null: not sent yet.
    sent_at = models.DateTimeField(null=True, blank=True)

    objects = NoticeRows.as_manager()

    class Meta:
        ordering = ["pk"]
        constraints = [models.UniqueConstraint(fields=["entry", "user"], name="notice_once_per_person")]
        indexes = [
            models.Index(fields=["next_try_at"], condition=models.Q(sent_at=None), name="notice_waiting"),
            models.Index(fields=["user", "-sent_at"], name="notice_by_user"),
        ]

    def __str__(self) -> str:
        return f"{self.entry} to {self.user}"
