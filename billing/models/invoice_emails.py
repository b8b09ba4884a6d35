"""The e-mail that announces an invoice. The row is the queue: it is left by closing and worked off by a task."""

from datetime import datetime
from typing import Self

from django.db import models

from billing.models.invoices import Invoice


class InvoiceEmailRows(models.QuerySet["InvoiceEmail"]):
    def due(self, now: datetime) -> Self:
        return self.filter(models.Q(next_try_at=None) | models.Q(next_try_at__lte=now), sent_at=None)


class InvoiceEmail(models.Model):
    invoice = models.OneToOneField(Invoice, primary_key=True, on_delete=models.PROTECT, related_name="announcement")
    # Null until the mail server took it.
    sent_at = models.DateTimeField(null=True, blank=True)
    # Where it went; empty before that.
    sent_to = models.EmailField(max_length=254, blank=True)
    tries = models.PositiveSmallIntegerField(default=0)
    # Null: now. Put ahead before each try, so that two workers do not send at once and a killed one is made up for.
    next_try_at = models.DateTimeField(null=True, blank=True)
    last_error = models.TextField(blank=True)

    objects = InvoiceEmailRows.as_manager()

    class Meta:
        indexes = [models.Index(fields=["next_try_at"], condition=models.Q(sent_at=None), name="invoice_email_due")]

    def __str__(self) -> str:
        return f"{self.invoice_id} {'sent' if self.sent_at else 'waiting'}"
