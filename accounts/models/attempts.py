"""How often somebody tried something lately; see `accounts.rate_limits`."""

from django.db import models


class Attempts(models.Model):
    """Attempts at one thing from one place in one window of time."""

    # The thing, the place and the window.
    key = models.CharField(max_length=200, primary_key=True)
    count = models.PositiveIntegerField()
    # From then on the row counts for nothing and may be removed.
    ends_at = models.DateTimeField()

    class Meta:
        verbose_name_plural = "attempts"

    def __str__(self) -> str:
        return self.key
