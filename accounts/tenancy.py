"""What belongs to an organisation. Imports nothing of ours.

A model that inherits from OrganisationOwned cannot be without an organisation, and the way to its rows is
`for_organisation()`: another organisation's row is simply not found.
"""

from typing import TYPE_CHECKING, Any, Self

from django.db import models

if TYPE_CHECKING:
    from accounts.models import Organisation


class OrganisationQuerySet[M: models.Model](models.QuerySet[M]):
    """Rows of organisations; start every request from `for_organisation()`."""

    def for_organisation(self, organisation: "Organisation") -> Self:
        return self.filter(organisation=organisation)


class OrganisationOwned(models.Model):
    """A row that belongs to exactly one organisation. Its model declares `objects` from an OrganisationQuerySet."""

    organisation: Any = models.ForeignKey("accounts.Organisation", on_delete=models.PROTECT, related_name="+")

    class Meta:
        abstract = True
