"""Projects split an organisation's keys and usage, for instance by product or by cost centre."""

from typing import Self

from django.db import models
from django.utils import timezone

from accounts import public_ids
from accounts.tenancy import OrganisationOwned, OrganisationQuerySet


class ProjectRows(OrganisationQuerySet["Project"]):
    def active(self) -> Self:
        return self.filter(archived_at=None)


class Project(OrganisationOwned):
    public_id = models.CharField(max_length=32, unique=True, default=public_ids.project_id, editable=False)
    name = models.CharField(max_length=120)
    # Usage that names only the organisation is put down to the default project; there is exactly one.
    is_default = models.BooleanField(default=False, editable=False)
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    # Null while in use. Archived projects keep their history; their keys must be revoked first.
    archived_at = models.DateTimeField(null=True, blank=True)

    objects = ProjectRows.as_manager()

    class Meta:
        ordering = ["-is_default", "name", "pk"]
        constraints = [
            models.UniqueConstraint(fields=["organisation", "name"], name="project_name_unique_in_organisation"),
            models.UniqueConstraint(
                fields=["organisation"], condition=models.Q(is_default=True), name="project_one_default"
            ),
        ]

    def __str__(self) -> str:
        return self.name
