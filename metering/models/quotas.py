"""Quotas, their counters, and the holds that calls take on them.

A counter is a row per quota, subject and window: what was used, and what is held for calls that still run. Counters and
holds lead with the organisation in their keys, like events and totals, and are changed only by `metering.admission`.
"""

from decimal import Decimal
from typing import Self

from django.contrib.postgres.fields import ArrayField
from django.core.serializers.json import DjangoJSONEncoder
from django.db import models
from django.db.models.functions import Now
from django.utils import timezone

from accounts.models import Organisation
from accounts.public_ids import new_public_id
from accounts.tenancy import OrganisationOwned, OrganisationQuerySet
from metering.models.meters import Meter


def quota_id() -> str:
    return new_public_id("quota")


class Measure(models.TextChoices):
    METER = "meter", "A meter"
    REQUESTS = "requests", "Requests"
    CONCURRENT = "concurrent", "Calls at the same time"
    SPEND = "spend", "Spend"


class QuotaScope(models.TextChoices):
    ORGANISATION = "organisation", "The organisation"
    PROJECT = "project", "A project"
    API_KEY = "api_key", "An API key"
    END_USER = "end_user", "An end user"


class Window(models.TextChoices):
    MINUTE = "minute", "Minute"
    HOUR = "hour", "Hour"
    DAY = "day", "Day"
    WEEK = "week", "Week"
    MONTH = "month", "Month"
    BILLING_PERIOD = "billing_period", "Billing period"
    NONE = "none", "For ever"


class Enforcement(models.TextChoices):
    HARD = "hard", "Refuse calls beyond it"
    SOFT = "soft", "Only warn"


class SetBy(models.TextChoices):
    OPERATOR = "operator", "Operator"
    PLAN = "plan", "Plan"
    CUSTOMER = "customer", "Customer"
    CREDIT = "credit", "Prepaid credit"


class QuotaRows(OrganisationQuerySet["Quota"]):
    def active(self) -> Self:
        return self.filter(archived_at=None)


class Quota(OrganisationOwned):
    """A limit of one measure for one scope per window. What it counts never changes; its amount and more may."""

    public_id = models.CharField(max_length=32, unique=True, default=quota_id, editable=False)
    measure = models.CharField(max_length=12, choices=Measure)
    # Only where the measure is a meter, and then one whose totals may be added.
    meter = models.ForeignKey(Meter, null=True, blank=True, on_delete=models.PROTECT, related_name="+")
    scope = models.CharField(max_length=12, choices=QuotaScope, default=QuotaScope.ORGANISATION)
    project_id = models.BigIntegerField(null=True, blank=True)
    api_key_id = models.BigIntegerField(null=True, blank=True)
    # Where the scope is an end user: the name by which the gateway knows them; empty: each one by themselves.
    end_user = models.CharField(max_length=200, blank=True)
    window = models.CharField(max_length=16, choices=Window)
    # In the meter's unit, in calls, or in the currency's major unit.
    amount = models.DecimalField(max_digits=40, decimal_places=12)
    # Only of spend.
    currency = models.CharField(max_length=3, blank=True)
    enforcement = models.CharField(max_length=8, choices=Enforcement, default=Enforcement.HARD)
    # Shell-style patterns; empty: all models.
    model_patterns = ArrayField(models.CharField(max_length=200), default=list, blank=True)
    # Percent of the amount at which somebody is told.
    thresholds = ArrayField(models.PositiveSmallIntegerField(), default=list, blank=True)
    set_by = models.CharField(max_length=12, choices=SetBy)
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    # Null while it is enforced.
    archived_at = models.DateTimeField(null=True, blank=True)

    objects = QuotaRows.as_manager()

    class Meta:
        ordering = ["organisation", "pk"]
        indexes = [models.Index(fields=["organisation"], condition=models.Q(archived_at=None), name="quota_in_force")]
        constraints = [
            models.CheckConstraint(
                condition=models.Q(measure=Measure.METER, meter__isnull=False)
                | (~models.Q(measure=Measure.METER) & models.Q(meter__isnull=True)),
                name="quota_meter_where_measured",
            ),
            models.CheckConstraint(
                condition=(models.Q(measure=Measure.SPEND) & ~models.Q(currency=""))
                | (~models.Q(measure=Measure.SPEND) & models.Q(currency="")),
                name="quota_currency_of_spend",
            ),
            models.CheckConstraint(
                condition=~models.Q(measure=Measure.CONCURRENT) | models.Q(window=Window.NONE),
                name="quota_concurrent_has_no_window",
            ),
            models.UniqueConstraint(
                fields=["organisation"],
                condition=models.Q(set_by=SetBy.CREDIT, archived_at=None),
                name="quota_one_credit_limit",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.amount.normalize():f} {self.what} per {self.window}"

    @property
    def what(self) -> str:
        """What is counted: a meter's key, requests, concurrent calls, or spend in its currency."""
        if self.meter is not None:
            return self.meter.key
        return self.currency if self.measure == Measure.SPEND else str(self.measure)


class QuotaIncrease(models.Model):
    """More for a while; what it adds ends by itself."""

    quota = models.ForeignKey(Quota, on_delete=models.CASCADE, related_name="increases")
    amount = models.DecimalField(max_digits=40, decimal_places=12)
    starts_at = models.DateTimeField()
    ends_at = models.DateTimeField()
    reason = models.CharField(max_length=300, blank=True)

    class Meta:
        ordering = ["quota", "starts_at"]
        constraints = [
            models.CheckConstraint(
                condition=models.Q(ends_at__gt=models.F("starts_at")), name="quota_increase_ends_after_it_starts"
            ),
            models.CheckConstraint(condition=models.Q(amount__gt=0), name="quota_increase_adds"),
        ]

    def __str__(self) -> str:
        return f"{self.amount} more until {self.ends_at:%Y-%m-%d %H:%M}"


class QuotaWindow(models.Model):
    """The counter of a quota, for one subject, in one window."""

    pk = models.CompositePrimaryKey("organisation_id", "quota_id", "subject", "starts_at")
    organisation = models.ForeignKey(
        Organisation, on_delete=models.DO_NOTHING, db_constraint=False, db_index=False, related_name="+"
    )
    quota_id = models.BigIntegerField()
    # The end user, where each has a counter; empty otherwise.
    subject = models.CharField(max_length=200)
    starts_at = models.DateTimeField()
    # Null: a window that never ends.
    ends_at = models.DateTimeField(null=True)
    # By usage that was reported; may exceed the quota (overdraft), since usage that happened is counted.
    used = models.DecimalField(max_digits=None, decimal_places=None, default=Decimal(0))
    # For calls that were admitted and have not ended.
    held = models.DecimalField(max_digits=None, decimal_places=None, default=Decimal(0))
    # Of `used`, what holds brought that are no longer kept. Counted only where the window never ends.
    pruned = models.DecimalField(
        max_digits=None, decimal_places=None, default=Decimal(0), db_default=Decimal(0), editable=False
    )

    class Meta:
        db_table = "quota_window"

    def __str__(self) -> str:
        return f"{self.quota_id} {self.subject} {self.starts_at:%Y-%m-%d %H:%M}"


class HoldState(models.TextChoices):
    HELD = "held", "In flight"
    SETTLED = "settled", "Settled"
    RELEASED = "released", "Released"
    EXPIRED = "expired", "Expired"


class Hold(models.Model):
    """What one admitted call holds on each counter until it is settled, released or expires."""

    pk = models.CompositePrimaryKey("organisation_id", "id")
    organisation = models.ForeignKey(
        Organisation, on_delete=models.DO_NOTHING, db_constraint=False, db_index=False, related_name="+"
    )
    # adm_…
    id = models.CharField(max_length=32)
    # The gateway's own id of the call: asking again with it is answered with the same hold.
    call_id = models.CharField(max_length=255)
    api_key_id = models.BigIntegerField()
    project_id = models.BigIntegerField()
    model = models.TextField(blank=True)
    end_user = models.CharField(max_length=200, blank=True)
    # Units by meter that were asked for, decimals as text; extensions add to it.
    estimate = models.JSONField(encoder=DjangoJSONEncoder)
    # What one unit of each meter was quoted at, decimals as text; a meter without a price is missing.
    prices = models.JSONField(encoder=DjangoJSONEncoder)
    currency = models.CharField(max_length=3, blank=True)
    # The counters it touches, in the order of their keys: five lists of the same length.
    quota_ids = ArrayField(models.BigIntegerField())
    subjects = ArrayField(models.CharField(max_length=200))
    window_starts = ArrayField(models.DateTimeField())
    # What is counted on each: requests, concurrent, spend, or meter:<key>.
    measures = ArrayField(models.CharField(max_length=80))
    amounts = ArrayField(models.DecimalField(max_digits=60, decimal_places=24))
    state = models.CharField(max_length=8, choices=HoldState, default=HoldState.HELD)
    created_at = models.DateTimeField()
    expires_at = models.DateTimeField()
    # Null while it is held.
    ended_at = models.DateTimeField(null=True)
    # Null until it is settled: units by meter that were really used.
    usage = models.JSONField(null=True, encoder=DjangoJSONEncoder)
    # It was settled after it had expired or been released: what it had held was free for others by then.
    was_late = models.BooleanField(default=False)
    # The event that reported the call; null: none has, yet.
    event_key = models.UUIDField(null=True)

    class Meta:
        db_table = "hold"
        constraints = [models.UniqueConstraint(fields=["organisation", "call_id"], name="hold_call_once")]
        indexes = [
            models.Index(fields=["id"], name="hold_id"),
            models.Index(fields=["expires_at"], condition=models.Q(state="held"), name="hold_open"),
            models.Index(
                fields=["ended_at"],
                condition=models.Q(state="expired") | models.Q(was_late=True),
                name="hold_leaked_or_late",
            ),
            models.Index(fields=["organisation", "created_at"], name="hold_recent"),
            # Settled by the gateway, before the event came: a moment, as a rule.
            models.Index(
                fields=["organisation", "ended_at"],
                condition=models.Q(state="settled", event_key=None),
                name="hold_without_event",
            ),
        ]

    def __str__(self) -> str:
        return self.id


class Denial(OrganisationOwned):
    """Calls that were refused for the same reason in the same minute."""

    minute = models.DateTimeField()
    api_key_id = models.BigIntegerField()
    project_id = models.BigIntegerField()
    # See `metering.admission.reasons`.
    code = models.CharField(max_length=40)
    # Zero: no quota was the reason.
    quota_id = models.BigIntegerField(default=0)
    model = models.CharField(max_length=200, blank=True)
    end_user = models.CharField(max_length=200, blank=True)
    # What the caller was told the last time.
    message = models.CharField(max_length=500)
    count = models.PositiveIntegerField(default=1)
    last_at = models.DateTimeField()

    objects = OrganisationQuerySet["Denial"].as_manager()

    class Meta:
        ordering = ["-minute", "-pk"]
        constraints = [
            models.UniqueConstraint(
                fields=["organisation", "minute", "api_key_id", "code", "quota_id", "model", "end_user"],
                name="denial_once_a_minute",
            )
        ]

    def __str__(self) -> str:
        return f"{self.code} × {self.count}"


class PriceEstimate(models.Model):
    """What a unit of a meter costs an organisation, as far as admission needs to know. Written by billing alone."""

    organisation = models.ForeignKey(
        Organisation, on_delete=models.DO_NOTHING, db_constraint=False, db_index=False, related_name="+"
    )
    # Of a meter: input_tokens.
    meter_key = models.CharField(max_length=63)
    # Empty: any model that has no row of its own.
    model = models.CharField(max_length=200, blank=True)
    currency = models.CharField(max_length=3)
    # For one unit, in the currency's major unit: the most it can cost on the organisation's plan.
    unit_price = models.DecimalField(max_digits=60, decimal_places=30)
    valid_from = models.DateTimeField()

    class Meta:
        db_table = "price_estimate"
        constraints = [
            models.UniqueConstraint(
                fields=["organisation", "model", "meter_key", "valid_from"], name="price_estimate_unique"
            )
        ]

    def __str__(self) -> str:
        return f"{self.meter_key} {self.model} {self.unit_price} {self.currency}"


class BillingWindow(models.Model):
    """A billing period as quotas need it. Written by billing alone."""

    organisation = models.ForeignKey(
        Organisation, on_delete=models.DO_NOTHING, db_constraint=False, db_index=False, related_name="+"
    )
    starts_at = models.DateTimeField()
    ends_at = models.DateTimeField()

    class Meta:
        db_table = "billing_window"
        constraints = [
            models.UniqueConstraint(fields=["organisation", "starts_at"], name="billing_window_unique"),
            models.CheckConstraint(
                condition=models.Q(ends_at__gt=models.F("starts_at")), name="billing_window_ends_after_it_starts"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.starts_at:%Y-%m-%d} to {self.ends_at:%Y-%m-%d}"


class WhenUnreachable(models.TextChoices):
    OPEN = "open", "Let calls through, up to a bound"
    CLOSED = "closed", "Refuse calls"


class AdmissionSettings(models.Model):
    """How an organisation wants its calls admitted; without a row the defaults hold."""

    organisation = models.OneToOneField(Organisation, on_delete=models.CASCADE, related_name="admission_settings")
    # What a gateway does with calls while we cannot be asked.
    when_unreachable = models.CharField(max_length=8, choices=WhenUnreachable, default=WhenUnreachable.OPEN)
    # How far it goes then; null: not bounded by that. The amount is in `currency`'s major unit.
    unreachable_amount = models.DecimalField(max_digits=20, decimal_places=6, null=True, blank=True)
    unreachable_requests = models.PositiveIntegerField(null=True, blank=True, default=1000)
    currency = models.CharField(max_length=3, blank=True)
    # What a call is taken to need where the gateway does not say.
    default_input_tokens = models.PositiveIntegerField(default=2000)
    default_output_tokens = models.PositiveIntegerField(default=1000)
    # From the plan; shell-style patterns, empty: all models.
    plan_models = ArrayField(models.CharField(max_length=200), default=list, blank=True)

    class Meta:
        verbose_name_plural = "admission settings"

    def __str__(self) -> str:
        return f"{self.organisation}: {self.when_unreachable}"


class AdmissionChange(models.Model):
    """Something that calls are decided by has changed: by which transaction. Written by triggers alone."""

    pk = models.CompositePrimaryKey("organisation_id", "changed_by")
    # Zero: everybody's.
    organisation_id = models.BigIntegerField()
    # PostgreSQL's number of the transaction, which is never used again.
    changed_by = models.BigIntegerField()
    changed_at = models.DateTimeField(db_default=Now())

    class Meta:
        db_table = "admission_change"

    def __str__(self) -> str:
        return f"{self.organisation_id} by {self.changed_by}"
