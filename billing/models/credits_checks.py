"""What the nightly look at the ledger of credit found."""

from django.core.serializers.json import DjangoJSONEncoder
from django.db import models


class CreditsCheck(models.Model):
    """One run of `billing.credit_checks.check_credits` over all organisations. Written by the task of that name."""

    started_at = models.DateTimeField()
    finished_at = models.DateTimeField()
    # How many things did not add up; 0 is as it should be.
    differences = models.PositiveIntegerField()
    # The first of them, as text.
    detail = models.JSONField(default=list, encoder=DjangoJSONEncoder)

    class Meta:
        ordering = ["-pk"]

    def __str__(self) -> str:
        return f"{self.started_at:%Y-%m-%d %H:%M}: {self.differences} differences"
