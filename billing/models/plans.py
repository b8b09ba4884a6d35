"""Plans, their versions and the price components of a version. A published version never changes."""

from decimal import Decimal
from typing import Self

from django.contrib.postgres.fields import ArrayField
from django.core.exceptions import ValidationError
from django.core.serializers.json import DjangoJSONEncoder
from django.db import models
from django.utils import timezone

from accounts.models import Organisation
from accounts.public_ids import new_public_id
from billing.periods import Cadence, CadenceInvalid
from metering.models import Meter


def validate_cadence(text: str) -> None:
    try:
        cadence = Cadence(text)
    except CadenceInvalid as error:
        raise ValidationError(str(error), code=error.code) from error
    if cadence != text:
        raise ValidationError(f"Write “{cadence}”.", code="cadence_spelled_otherwise")


def plan_id() -> str:
    return new_public_id("plan")


class PlanRows(models.QuerySet["Plan"]):
    def on_offer(self, organisation: Organisation | None = None) -> Self:
        """Plans that customers may choose themselves: those for all, and those made for this organisation."""
        for_all = models.Q(is_public=True, organisation=None)
        made_for_it = models.Q(organisation=organisation) if organisation is not None else models.Q(pk=None)
        return self.filter(for_all | made_for_it, archived_at=None, versions__published_at__isnull=False).distinct()


class Plan(models.Model):
    public_id = models.CharField(max_length=32, unique=True, default=plan_id, editable=False)
    # Stands in commands and addresses: pay-as-you-go.
    key = models.SlugField(max_length=63, unique=True)
    name = models.CharField(max_length=120)
    # One sentence for the pricing page.
    description = models.CharField(max_length=300, blank=True)
    # Whether customers may choose it; else only operators can give it.
    is_public = models.BooleanField(default=False)
    # Made for one organisation, which alone sees it and may have it; null for any.
    organisation = models.ForeignKey(Organisation, null=True, blank=True, on_delete=models.PROTECT, related_name="+")
    position = models.PositiveSmallIntegerField(default=100)
    archived_at = models.DateTimeField(null=True, blank=True)

    objects = PlanRows.as_manager()

    class Meta:
        ordering = ["position", "name"]

    def __str__(self) -> str:
        return self.name

    def current_version(self) -> "PlanVersion | None":
        """The newest published version; None while the plan is only a draft."""
        return self.versions.filter(published_at__isnull=False).order_by("-number").first()


class PlanVersionRows(models.QuerySet["PlanVersion"]):
    def to_give(self, organisation: Organisation | None = None) -> Self:
        """Published versions that an operator may put on an organisation."""
        fitting = models.Q(plan__organisation=None)
        if organisation is not None:
            fitting |= models.Q(plan__organisation=organisation)
        return self.filter(fitting, published_at__isnull=False, plan__archived_at=None).select_related("plan")


class PlanVersion(models.Model):
    plan = models.ForeignKey(Plan, on_delete=models.PROTECT, related_name="versions")
    number = models.PositiveIntegerField()
    currency = models.CharField(max_length=3)
    # How long a period is, as `periods.Cadence` writes it: month, year, 3 months, 2 weeks.
    cadence = models.CharField(max_length=16, validators=[validate_cadence])
    # Days after subscribing in which nothing is charged; an organisation has such a trial once.
    trial_days = models.PositiveSmallIntegerField(default=0)
    # What the plan limits, written into metering while it holds: see `plan_limits`.
    limits = models.JSONField(default=list, blank=True, encoder=DjangoJSONEncoder)
    # Shell-style patterns of models that may be used; empty means all.
    allowed_models = ArrayField(models.CharField(max_length=200), default=list, blank=True)
    # Credit that each period brings, in the currency's major unit, whole however long the plan holds in it; null: none.
    credit_amount = models.DecimalField(max_digits=20, decimal_places=6, null=True, blank=True)
    # As grants have it: smaller is used first.
    credit_priority = models.PositiveSmallIntegerField(default=50)
    # How many more periods what is left of it stays.
    credit_rolls_for = models.PositiveSmallIntegerField(default=0)
    # The most that goes from one period into the next of all that stays; null: all of it.
    credit_most_rolled = models.DecimalField(max_digits=20, decimal_places=6, null=True, blank=True)
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    # Null: a draft, which may still change. From then on the database refuses any change.
    published_at = models.DateTimeField(null=True, blank=True)

    objects = PlanVersionRows.as_manager()

    class Meta:
        ordering = ["plan", "-number"]
        constraints = [models.UniqueConstraint(fields=["plan", "number"], name="plan_version_number_unique")]

    def __str__(self) -> str:
        return f"{self.plan.name} v{self.number}"


class ComponentKind(models.TextChoices):
    FLAT_FEE = "flat_fee", "Flat fee per period"
    PER_UNIT = "per_unit", "Per unit"
    GRADUATED = "graduated", "Graduated tiers"
    VOLUME = "volume", "Volume: all units at the tier reached"
    PACKAGE = "package", "Packages: per started block"
    RATE_CARD = "rate_card", "Price book by model"
    PERCENTAGE = "percentage", "Percentage of a metered amount"
    COST_PLUS = "cost_plus", "Provider cost with a markup"
    MINIMUM = "minimum", "Minimum commitment"
    MAXIMUM = "maximum", "Maximum (cap)"


class PriceComponent(models.Model):
    """One part of what a plan charges. `billing.rating` has a value class per kind and says how each is computed."""

    plan_version = models.ForeignKey(PlanVersion, on_delete=models.PROTECT, related_name="components")
    # Components are tried in this order; the first that matches a reading prices it.
    position = models.PositiveSmallIntegerField()
    kind = models.CharField(max_length=16, choices=ComponentKind)
    label = models.CharField(max_length=120)
    # flat_fee, minimum and maximum: the amount per period, in the currency's major unit.
    amount = models.DecimalField(max_digits=20, decimal_places=6, null=True, blank=True)
    # flat_fee: True charges the coming period, False the one that ended.
    in_advance = models.BooleanField(default=False)
    # per_unit, graduated, volume, package and percentage: the one meter. rate_card and cost_plus: null, see `meters`.
    meter = models.ForeignKey(Meter, null=True, blank=True, on_delete=models.PROTECT, related_name="+")
    # rate_card and cost_plus: keys of the meters it prices; empty means every meter that is not part of another.
    meters = ArrayField(models.CharField(max_length=63), default=list, blank=True)
    # Where usage is priced: only these models, by name or shell-style pattern (claude-*); empty means all.
    only_models = ArrayField(models.CharField(max_length=200), default=list, blank=True)
    # Where usage is priced: only these values of these labels, {"service_tier": ["batch"]}; empty means all.
    only_labels = models.JSONField(default=dict, blank=True, encoder=DjangoJSONEncoder)
    # Where usage is priced: only these projects, by public id; empty means all.
    only_projects = ArrayField(models.CharField(max_length=32), default=list, blank=True)
    # rate_card and cost_plus: labels by which their lines are kept apart, such as project.
    split_by = ArrayField(models.CharField(max_length=63), default=list, blank=True)
    # per_unit and package: the price of `scale` units, which for a package is its size.
    unit_price = models.DecimalField(max_digits=30, decimal_places=12, null=True, blank=True)
    scale = models.DecimalField(max_digits=18, decimal_places=6, default=Decimal(1_000_000))
    # Units per period and meter that cost nothing, decimals as text: {"input_tokens": "1000000"}.
    included = models.JSONField(default=dict, blank=True, encoder=DjangoJSONEncoder)
    # rate_card and cost_plus: an allowance that several meters draw from, after those of their own: units per period,
    # and what a unit of each meter takes of it, decimals as text: {"input_tokens": "1", "output_tokens": "5"}.
    # Null: none.
    shared_units = models.DecimalField(max_digits=30, decimal_places=6, null=True, blank=True)
    shared_weights = models.JSONField(default=dict, blank=True, encoder=DjangoJSONEncoder)
    # graduated and volume, decimals as text: [{"up_to": "1000000", "unit_price": "0.15", "flat": "0"}, …,
    # {"up_to": null, …}].
    tiers = models.JSONField(default=list, blank=True, encoder=DjangoJSONEncoder)
    # rate_card: times the list price; 0.9 is ten percent off. cost_plus: times the cost; 1.3 is thirty percent on top.
    multiplier = models.DecimalField(max_digits=12, decimal_places=6, default=Decimal(1))
    # percentage: 2.9 is 2.9 percent of what the meter counts, which must be money in the version's currency.
    percent = models.DecimalField(max_digits=12, decimal_places=6, null=True, blank=True)
    # cost_plus: the least and the most that `scale` units may cost; null where there is no such bound.
    floor = models.DecimalField(max_digits=30, decimal_places=12, null=True, blank=True)
    ceiling = models.DecimalField(max_digits=30, decimal_places=12, null=True, blank=True)

    # Where usage is priced: only in these weekly windows, "Mon-Fri 22:00-06:00 Europe/Berlin". Empty: at any time.
    windows = models.CharField(max_length=300, blank=True)
    # minimum and maximum: positions of the components that count; empty means all that are neither.
    counted = ArrayField(models.PositiveSmallIntegerField(), default=list, blank=True)

    class Meta:
        ordering = ["plan_version", "position"]
        constraints = [
            models.UniqueConstraint(fields=["plan_version", "position"], name="price_component_position_unique"),
            models.CheckConstraint(condition=models.Q(scale__gt=0), name="price_component_scale_positive"),
            models.CheckConstraint(
                condition=~models.Q(kind=ComponentKind.FLAT_FEE) | models.Q(amount__isnull=False),
                name="price_component_flat_fee_has_amount",
            ),
            models.CheckConstraint(
                condition=~models.Q(kind=ComponentKind.PER_UNIT)
                | models.Q(meter__isnull=False, unit_price__isnull=False),
                name="price_component_per_unit_complete",
            ),
            models.CheckConstraint(
                condition=~models.Q(kind=ComponentKind.GRADUATED) | models.Q(meter__isnull=False),
                name="price_component_graduated_has_meter",
            ),
            models.CheckConstraint(
                condition=~models.Q(kind=ComponentKind.VOLUME) | models.Q(meter__isnull=False),
                name="price_component_volume_has_meter",
            ),
            models.CheckConstraint(
                condition=~models.Q(kind=ComponentKind.PACKAGE)
                | models.Q(meter__isnull=False, unit_price__isnull=False),
                name="price_component_package_complete",
            ),
            models.CheckConstraint(
                condition=~models.Q(kind=ComponentKind.PERCENTAGE)
                | models.Q(meter__isnull=False, percent__isnull=False, percent__gte=0),
                name="price_component_percentage_complete",
            ),
            models.CheckConstraint(
                condition=models.Q(floor=None) | models.Q(ceiling=None) | models.Q(floor__lte=models.F("ceiling")),
                name="price_component_floor_below_ceiling",
            ),
            models.CheckConstraint(
                condition=~models.Q(kind__in=(ComponentKind.MINIMUM, ComponentKind.MAXIMUM))
                | models.Q(amount__isnull=False, amount__gte=0),
                name="price_component_bound_has_amount",
            ),
        ]

    def __str__(self) -> str:
        return self.label
