"""The catalogue: plans, their versions, and what a version charges.

A draft version may be changed at will; publishing freezes it, and the database holds to that. Subscribers stay on the
version they chose. How a component is computed stands in `billing.rating`; `component_values` makes rows into its
value classes.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any, TypedDict, Unpack

from django.db import transaction
from django.db.models import Max, prefetch_related_objects
from django.http import HttpRequest

from accounts.audit import Actor, record
from accounts.errors import DomainError
from accounts.remembering import remembered
from billing import rating
from billing.component_values import component_value, component_values
from billing.included_credit import require_sound_credit
from billing.models import ComponentKind, Plan, PlanVersion, PriceComponent
from billing.money import CURRENCIES, ZERO
from billing.periods import Cadence
from billing.plan_limits import require_sound
from metering import reports
from metering.models import Meter


class PlanKeyTaken(DomainError):
    code = "plan_key_taken"
    sentence = "Another plan has this key."


class PlanCurrencyUnknown(DomainError):
    code = "unknown_currency"
    sentence = "That is not a currency we can charge in: three capital letters such as USD or EUR."


class VersionIsPublished(DomainError):
    code = "version_is_published"
    sentence = "A published version never changes. Make a new version instead."


class VersionIsEmpty(DomainError):
    code = "version_is_empty"
    sentence = "A version needs at least one price component before it can be published."


class UnknownPlan(DomainError):
    code = "unknown_plan"
    sentence = "There is no published plan with this key."


# Kinds that without meters of their own cover every meter that is not part of another.
OPEN_KINDS = frozenset({ComponentKind.RATE_CARD, ComponentKind.COST_PLUS})
CREDIT = ("credit_amount", "credit_priority", "credit_rolls_for", "credit_most_rolled")
# What a new draft takes over besides components.
COPIED = ("trial_days", "limits", "allowed_models", *CREDIT)


def newest_version(plan_key: str) -> PlanVersion:
    """What new subscribers of a plan get; raises UnknownPlan."""
    plan = Plan.objects.filter(key=plan_key).first()
    version = plan.current_version() if plan else None
    if version is None:
        raise UnknownPlan(f"There is no published plan “{plan_key}”.")
    return version


def create_plan(
    key: str,
    *,
    name: str,
    description: str = "",
    is_public: bool = False,
    position: int = 100,
    actor: Actor = None,
    request: HttpRequest | None = None,
) -> Plan:
    with transaction.atomic():
        plan, is_new = Plan.objects.get_or_create(
            key=key,
            defaults={"name": name, "description": description, "is_public": is_public, "position": position},
        )
        if not is_new:
            raise PlanKeyTaken
        _record("plan.created", plan, actor=actor, request=request)
    return plan


def save_plan(plan: Plan, *, actor: Actor = None, request: HttpRequest | None = None) -> Plan:
    """Write a plan's name, description, place and whether it is on offer. What it charges lies in its versions."""
    action = "plan.created" if plan.pk is None else "plan.changed"
    with transaction.atomic():
        plan.save()
        details = {"name": plan.name, "is_public": plan.is_public, "is_archived": plan.archived_at is not None}
        _record(action, plan, actor=actor, request=request, details=details)
    return plan


def draft_version(plan: Plan, *, currency: str, cadence: str = Cadence.MONTH) -> PlanVersion:
    """A new, empty draft after the plan's versions so far."""
    if currency not in CURRENCIES:
        raise PlanCurrencyUnknown
    with transaction.atomic():
        Plan.objects.select_for_update().get(pk=plan.pk)
        last = plan.versions.aggregate(last=Max("number"))["last"] or 0
        return plan.versions.create(number=last + 1, currency=currency, cadence=Cadence(cadence))


def copy_version(version: PlanVersion) -> PlanVersion:
    """A draft with the components of an existing version: how a published one is changed."""
    with transaction.atomic():
        draft = draft_version(version.plan, currency=version.currency, cadence=version.cadence)
        for name in COPIED:
            setattr(draft, name, getattr(version, name))
        draft.save(update_fields=COPIED)
        components = list(version.components.all())
        for component in components:
            component.pk = None
            component.plan_version = draft
        PriceComponent.objects.bulk_create(components)
    return draft


class Limits(TypedDict, total=False):
    """What of its meters' usage a component prices; whatever is left out is no limit."""

    windows: str  # in the words of rating.parse_windows
    only_models: Sequence[str]  # names or shell-style patterns
    only_labels: Mapping[str, Sequence[str]]  # {"service_tier": ["batch"]}
    only_projects: Sequence[str]  # public ids


def add_flat_fee(version: PlanVersion, *, label: str, amount: Decimal, in_advance: bool = False) -> PriceComponent:
    return _add(version, ComponentKind.FLAT_FEE, label=label, amount=amount, in_advance=in_advance)


def add_per_unit(
    version: PlanVersion,
    *,
    label: str,
    meter: Meter,
    unit_price: Decimal,
    scale: Decimal | None = None,
    included: Decimal = ZERO,
    **limits: Unpack[Limits],
) -> PriceComponent:
    return _add(
        version,
        ComponentKind.PER_UNIT,
        label=label,
        meter=meter,
        unit_price=unit_price,
        scale=meter.display_scale if scale is None else scale,
        included={meter.key: str(included)} if included else {},
        **limits,
    )


def add_graduated(
    version: PlanVersion,
    *,
    label: str,
    meter: Meter,
    tiers: Sequence[rating.Tier],
    scale: Decimal | None = None,
    included: Decimal = ZERO,
    **limits: Unpack[Limits],
) -> PriceComponent:
    return _add(
        version,
        ComponentKind.GRADUATED,
        label=label,
        meter=meter,
        scale=meter.display_scale if scale is None else scale,
        tiers=_tier_rows(tiers),
        included={meter.key: str(included)} if included else {},
        **limits,
    )


def add_volume(
    version: PlanVersion,
    *,
    label: str,
    meter: Meter,
    tiers: Sequence[rating.Tier],
    scale: Decimal | None = None,
    included: Decimal = ZERO,
    **limits: Unpack[Limits],
) -> PriceComponent:
    """All units at the price of the tier that the period's usage reaches."""
    return _add(
        version,
        ComponentKind.VOLUME,
        label=label,
        meter=meter,
        scale=meter.display_scale if scale is None else scale,
        tiers=_tier_rows(tiers),
        included={meter.key: str(included)} if included else {},
        **limits,
    )


def add_package(
    version: PlanVersion,
    *,
    label: str,
    meter: Meter,
    price: Decimal,
    size: Decimal,
    included: Decimal = ZERO,
    **limits: Unpack[Limits],
) -> PriceComponent:
    """`price` for every started block of `size` units."""
    return _add(
        version,
        ComponentKind.PACKAGE,
        label=label,
        meter=meter,
        unit_price=price,
        scale=size,
        included={meter.key: str(included)} if included else {},
        **limits,
    )


def add_rate_card(
    version: PlanVersion,
    *,
    label: str,
    meters: Sequence[str] = (),
    included: Mapping[str, Decimal] | None = None,
    multiplier: Decimal = Decimal(1),
    shared: rating.SharedAllowance | None = None,
    split_by: Sequence[str] = (),
    **limits: Unpack[Limits],
) -> PriceComponent:
    """Usage at the price book. Without `meters`, every meter that is not part of another. Several meters may draw from
    one `shared` allowance; lines are kept apart by the labels in `split_by`, such as the project."""
    return _add(
        version,
        ComponentKind.RATE_CARD,
        label=label,
        meters=list(meters),
        included={key: str(units) for key, units in (included or {}).items()},
        multiplier=multiplier,
        split_by=list(split_by),
        **_shared(shared),
        **limits,
    )


def add_percentage(
    version: PlanVersion,
    *,
    label: str,
    meter: Meter,
    percent: Decimal,
    included: Decimal = ZERO,
    **limits: Unpack[Limits],
) -> PriceComponent:
    """A share of what the meter counts beyond `included`; its unit must be the version's currency."""
    return _add(
        version,
        ComponentKind.PERCENTAGE,
        label=label,
        meter=meter,
        percent=percent,
        included={meter.key: str(included)} if included else {},
        **limits,
    )


def add_cost_plus(
    version: PlanVersion,
    *,
    label: str,
    markup: Decimal,
    meters: Sequence[str] = (),
    floor: Decimal | None = None,
    ceiling: Decimal | None = None,
    scale: Decimal = Decimal(1_000_000),
    included: Mapping[str, Decimal] | None = None,
    shared: rating.SharedAllowance | None = None,
    split_by: Sequence[str] = (),
    **limits: Unpack[Limits],
) -> PriceComponent:
    """Usage at the provider's cost times `markup`; `scale` units cost no less than `floor`, no more than `ceiling`."""
    return _add(
        version,
        ComponentKind.COST_PLUS,
        label=label,
        meters=list(meters),
        multiplier=markup,
        floor=floor,
        ceiling=ceiling,
        scale=scale,
        included={key: str(units) for key, units in (included or {}).items()},
        split_by=list(split_by),
        **_shared(shared),
        **limits,
    )


def add_minimum(
    version: PlanVersion, *, label: str, amount: Decimal, of: Sequence[PriceComponent] = ()
) -> PriceComponent:
    """A commitment per period: what the named components (all, unless given) charge less than it is added."""
    counted = [component.position for component in of]
    return _add(version, ComponentKind.MINIMUM, label=label, amount=amount, counted=counted)


def add_maximum(
    version: PlanVersion, *, label: str, amount: Decimal, of: Sequence[PriceComponent] = ()
) -> PriceComponent:
    """A cap per period: what the named components (all, unless given) charge beyond it is taken off."""
    counted = [component.position for component in of]
    return _add(version, ComponentKind.MAXIMUM, label=label, amount=amount, counted=counted)


def publish_version(
    version: PlanVersion, *, now: datetime, actor: Actor = None, request: HttpRequest | None = None
) -> PlanVersion:
    """Freeze a draft; new subscribers get it. Refuses what rating could not compute."""
    with transaction.atomic():
        locked = PlanVersion.objects.select_for_update().select_related("plan").get(pk=version.pk)
        if locked.published_at is not None:
            raise VersionIsPublished
        if not components_of(locked):
            raise VersionIsEmpty
        require_sound(locked.limits, locked.allowed_models)
        require_sound_credit(*(getattr(locked, name) for name in CREDIT))
        locked.published_at = now
        locked.save(update_fields=["published_at"])
        _record("plan_version.published", locked.plan, actor=actor, request=request, details={"version": locked.number})
    return locked


def components_of(version: PlanVersion) -> list[rating.Component]:
    """What the version charges, as rating's value classes, in order. Raises ComponentInvalid."""
    return list(_components_of(version))


@remembered
def _components_of(version: PlanVersion) -> tuple[rating.Component, ...]:
    rows = sorted(version.components.all(), key=lambda row: row.position)
    prefetch_related_objects(rows, "meter")
    needs_meters = any(row.kind in OPEN_KINDS and not row.meters for row in rows)
    return tuple(component_values(rows, _open_meters() if needs_meters else ()))


def _open_meters() -> tuple[str, ...]:
    """What an open rate card prices: every meter whose totals can be added up and are not part of another's."""
    return tuple(meter.key for meter in reports.all_meters() if meter.is_additive and meter.part_of is None)


def _add(version: PlanVersion, kind: ComponentKind, *, label: str, **fields: Any) -> PriceComponent:
    with transaction.atomic():
        locked = PlanVersion.objects.select_for_update().get(pk=version.pk)
        if locked.published_at is not None:
            raise VersionIsPublished
        last = locked.components.aggregate(last=Max("position"))["last"] or 0
        row = locked.components.create(kind=kind, label=label, position=last + 1, **fields)
        row.refresh_from_db()
        component_value(row, ())
    return row


def _shared(shared: rating.SharedAllowance | None) -> dict[str, Any]:
    if shared is None:
        return {}
    weights = {key: str(weight) for key, weight in shared.weights.items()}
    return {"shared_units": shared.units, "shared_weights": weights}


def _tier_rows(tiers: Sequence[rating.Tier]) -> list[dict[str, str | None]]:
    return [
        {
            "up_to": None if tier.up_to is None else str(tier.up_to),
            "unit_price": str(tier.unit_price),
            "flat": str(tier.flat),
        }
        for tier in tiers
    ]


def _record(
    action: str,
    plan: Plan,
    *,
    actor: Actor,
    request: HttpRequest | None,
    details: dict[str, Any] | None = None,
) -> None:
    record(
        action,
        organisation=None,
        actor=actor,
        subject_id=plan.public_id,
        subject_label=plan.name,
        details=details,
        request=request,
    )
