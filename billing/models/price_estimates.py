"""What admission was last told about an organisation's prices and periods."""

from django.db import models

from accounts.models import Organisation


class EstimatesWritten(models.Model):
    """When price estimates and billing windows were written for an organisation, and from which state of the book."""

    organisation = models.OneToOneField(
        Organisation, on_delete=models.CASCADE, primary_key=True, related_name="estimates_written"
    )
    written_at = models.DateTimeField()
    # The newest price known then; null: the book was empty.
    book_known_at = models.DateTimeField(null=True)

    class Meta:
        verbose_name_plural = "estimates written"

    def __str__(self) -> str:
        return f"{self.organisation_id} {self.written_at:%Y-%m-%d %H:%M}"
