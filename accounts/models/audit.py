"""Who did what to what, and when. Entries are only ever added; the database refuses anything else."""

from django.conf import settings
from django.db import models
from django.utils import timezone

from accounts.models.organisations import Organisation


class AuditEntryRows(models.QuerySet["AuditEntry"]):
    def for_organisation(self, organisation: Organisation) -> "AuditEntryRows":
        return self.filter(organisation=organisation)


class AuditEntry(models.Model):
    """One act. Written by `accounts.audit.record`, in the transaction of the act itself."""

    # Null: an act that concerns the installation rather than an organisation.
    organisation = models.ForeignKey(Organisation, null=True, on_delete=models.PROTECT, related_name="+")
    # Null: not a person; `actor_label` then says which token, task or command it was.
    actor = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, on_delete=models.PROTECT, related_name="+")
    actor_label = models.CharField(max_length=254)
    # Noun and past participle: `api_key.revoked`.
    action = models.CharField(max_length=64)
    # Public id of what was acted on.
    subject_id = models.CharField(max_length=64, blank=True)
    subject_label = models.CharField(max_length=254, blank=True)
    # What changed, without any secret: {"role": ["viewer", "admin"]}.
    details = models.JSONField(default=dict)
    # Null: not through the web.
    ip_address = models.GenericIPAddressField(null=True)
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    objects = AuditEntryRows.as_manager()

    class Meta:
        ordering = ["-pk"]
        verbose_name_plural = "audit entries"
        indexes = [
            models.Index(fields=["organisation", "-id"], name="audit_by_organisation"),
            models.Index(fields=["subject_id", "-id"], name="audit_by_subject"),
        ]

    def __str__(self) -> str:
        return f"{self.action} {self.subject_label}"

    def save(self, *args: object, **kwargs: object) -> None:
        if self.pk is not None:
            raise TypeError("Audit entries are never changed.")
        super().save(*args, **kwargs)

    def delete(self, *args: object, **kwargs: object) -> tuple[int, dict[str, int]]:
        raise TypeError("Audit entries are never deleted.")

    @property
    def detail_lines(self) -> list[str]:
        """The details in words: "role: viewer → admin"."""
        return [f"{name.replace('_', ' ')}: {_in_words(value)}" for name, value in self.details.items()]


def _in_words(value: object) -> str:
    if isinstance(value, list) and len(value) == 2:
        before, after = ("none" if one in (None, "") else one for one in value)
        return f"{before} → {after}"
    return ", ".join(str(item) for item in value) if isinstance(value, list) else str(value)
