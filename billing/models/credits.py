"""Credits in double entry: what was granted, and every movement of it. Rows are only ever added."""

from decimal import Decimal
from typing import Any, Self

from django.db import models
from django.db.models import F, Q, Sum
from django.db.models.functions import Coalesce

from accounts.public_ids import new_public_id
from accounts.tenancy import OrganisationOwned, OrganisationQuerySet
from billing.models.invoices import Invoice
from billing.models.subscriptions import Subscription


def grant_id() -> str:
    return new_public_id("grant")


class GrantKind(models.TextChoices):
    MANUAL = "manual", "Manual"
    PROMOTIONAL = "promotional", "Promotional"
    PLAN = "plan", "Comes with the plan"
    PURCHASED = "purchased", "Purchased"
    # What a last bill gave back; see `billing.owed`.
    OWED = "owed", "From a last bill"


class CreditGrantRows(OrganisationQuerySet["CreditGrant"]):
    def with_sums(self) -> Self:
        """Each grant with what was `used`, is `left`, has `expired` and was `reversed` of it, also what of that was
        `paid_back`."""
        return self.annotate(
            used=_sum_of("used"),
            left=_sum_of("remaining"),
            expired=_sum_of("expired"),
            reversed=_sum_of("reversed"),
            paid_back=_sum_of("reversed", entries__transaction__kind="paid_back"),
        )


def _sum_of(account: str, **more: str) -> Any:
    return Coalesce(Sum("entries__amount", filter=Q(entries__account=account, **more)), Decimal(0))


class CreditGrant(OrganisationOwned):
    public_id = models.CharField(max_length=32, unique=True, default=grant_id, editable=False)
    kind = models.CharField(max_length=16, choices=GrantKind)
    # In the currency's major unit, exact.
    amount = models.DecimalField(max_digits=38, decimal_places=18)
    currency = models.CharField(max_length=3)
    # Smaller is used first.
    priority = models.PositiveSmallIntegerField(default=100)
    effective_at = models.DateTimeField()
    # From then on nothing is left of it; null without an end.
    expires_at = models.DateTimeField(null=True, blank=True)
    # Keys of the meters whose charges it pays; empty for every charge.
    meters = models.JSONField(default=list, blank=True)
    reason = models.CharField(max_length=200)
    created_at = models.DateTimeField()
    # Of what comes with a plan: whose, and the beginning of the period that brought it. Null for any other.
    subscription = models.ForeignKey(Subscription, null=True, blank=True, on_delete=models.PROTECT, related_name="+")
    period_start = models.DateTimeField(null=True, blank=True)

    objects: Any = CreditGrantRows.as_manager()

    class Meta:
        ordering = ["pk"]
        constraints = [
            models.CheckConstraint(condition=Q(amount__gt=0), name="grant_of_something"),
            models.UniqueConstraint(fields=["subscription", "period_start"], name="grant_once_per_period"),
            models.CheckConstraint(
                condition=Q(subscription=None, period_start=None)
                | Q(subscription__isnull=False, period_start__isnull=False, kind=GrantKind.PLAN),
                name="grant_period_where_of_a_plan",
            ),
            models.CheckConstraint(
                condition=Q(expires_at=None) | Q(expires_at__gt=F("effective_at")), name="grant_expires_after_it_begins"
            ),
        ]

    def __str__(self) -> str:
        return self.public_id

    @property
    def is_limited(self) -> bool:
        """Whether there are charges that it does not pay."""
        return bool(self.meters) or self.kind == GrantKind.PLAN

    def pays(self, meter: str) -> bool:
        """Whether it pays a charge of the meter, or with an empty name one that is of none. What comes with a plan pays
        for usage and never for the plan itself."""
        if self.meters:
            return meter in self.meters
        return bool(meter) or not self.is_limited


class LedgerKind(models.TextChoices):
    GRANTED = "granted", "Granted"
    USED = "used", "Used"
    EXPIRED = "expired", "Expired"
    REVERSED = "reversed", "Reversed"
    # Reversed, and given to the customer as money.
    PAID_BACK = "paid_back", "Paid back"
    # What was used, when its invoice became void.
    RETURNED = "returned", "Returned"


class LedgerTransaction(OrganisationOwned):
    kind = models.CharField(max_length=16, choices=LedgerKind)
    # Of what was used or returned: the invoice it paid.
    invoice = models.ForeignKey(Invoice, null=True, on_delete=models.PROTECT, related_name="+")
    at = models.DateTimeField()

    objects: Any = OrganisationQuerySet.as_manager()

    class Meta:
        ordering = ["pk"]
        constraints = [
            models.CheckConstraint(
                condition=Q(kind__in=(LedgerKind.USED, LedgerKind.RETURNED), invoice__isnull=False)
                | ~Q(kind__in=(LedgerKind.USED, LedgerKind.RETURNED)) & Q(invoice__isnull=True),
                name="ledger_invoice_where_used",
            ),
            models.UniqueConstraint(fields=["invoice", "kind"], name="ledger_once_per_invoice"),
        ]

    def __str__(self) -> str:
        return f"{self.kind} {self.pk}"


class LedgerAccount(models.TextChoices):
    # Where credit comes from: below zero by all that was granted.
    GRANTED = "granted", "Granted"
    REMAINING = "remaining", "Remaining"
    USED = "used", "Used"
    EXPIRED = "expired", "Expired"
    REVERSED = "reversed", "Reversed"


class LedgerEntry(OrganisationOwned):
    """One side of a movement. The entries of a transaction sum to zero for each grant: the database checks it."""

    transaction = models.ForeignKey(LedgerTransaction, on_delete=models.PROTECT, related_name="entries")
    grant = models.ForeignKey(CreditGrant, on_delete=models.PROTECT, related_name="entries")
    account = models.CharField(max_length=16, choices=LedgerAccount)
    # In the currency's major unit, exact to any number of places, as the lines of invoices are.
    amount = models.DecimalField(max_digits=None, decimal_places=None)

    objects: Any = OrganisationQuerySet.as_manager()

    class Meta:
        ordering = ["pk"]

    def __str__(self) -> str:
        return f"{self.account} {self.amount}"
