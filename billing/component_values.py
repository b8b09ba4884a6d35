"""Rows of price components as rating's value classes: one function per kind, and the refusal of what cannot be charged.

Computes nothing; what each kind means stands with its class in `billing.rating`.
"""

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

from accounts.errors import DomainError
from billing import rating
from billing.models import ComponentKind, PriceComponent
from billing.money import ZERO

# Kinds that price no usage.
TIMELESS_KINDS = frozenset({ComponentKind.FLAT_FEE, ComponentKind.MINIMUM, ComponentKind.MAXIMUM})


class ComponentInvalid(DomainError):
    code = "component_invalid"
    sentence = "This price component cannot be charged."


def component_values(rows: Sequence[PriceComponent], whole_meters: tuple[str, ...]) -> list[rating.Component]:
    """The rows of one version as rating's value classes, in their order. Raises ComponentInvalid."""
    values = [component_value(row, whole_meters) for row in rows]
    try:
        rating.require_known(values)
    except ValueError as error:
        raise ComponentInvalid(str(error)) from error
    return values


def component_value(row: PriceComponent, whole_meters: tuple[str, ...]) -> rating.Component:
    """One row as rating's value class; `whole_meters` are what an open rate card prices. Raises ComponentInvalid."""
    try:
        if row.windows and row.kind in TIMELESS_KINDS:
            raise ValueError("only what prices usage can have weekly windows")
        if row.kind in TIMELESS_KINDS and (row.only_models or row.only_labels or row.only_projects):
            raise ValueError("only what prices usage can be limited to models, labels or projects")
        _require_whole_totals(row)
        return _VALUES[ComponentKind(row.kind)](row, whole_meters)
    except (ValueError, ArithmeticError, KeyError, TypeError) as error:
        raise ComponentInvalid(f"The component “{row.label}” cannot be charged: {error}") from error


def _flat_fee(row: PriceComponent, whole_meters: tuple[str, ...]) -> rating.Component:
    return rating.FlatFee(
        id=str(row.position), label=row.label, amount=_required(row.amount, "amount"), in_advance=row.in_advance
    )


def _per_unit(row: PriceComponent, whole_meters: tuple[str, ...]) -> rating.Component:
    return rating.PerUnit(
        **_common(row),
        meter=_meter_key(row),
        scale=row.scale,
        included=_included(row).get(_meter_key(row), ZERO),
        unit_price=_required(row.unit_price, "unit price"),
    )


def _graduated(row: PriceComponent, whole_meters: tuple[str, ...]) -> rating.Component:
    return rating.Graduated(
        **_common(row),
        meter=_meter_key(row),
        scale=row.scale,
        included=_included(row).get(_meter_key(row), ZERO),
        tiers=tuple(_tier(tier) for tier in row.tiers),
    )


def _volume(row: PriceComponent, whole_meters: tuple[str, ...]) -> rating.Component:
    return rating.Volume(
        **_common(row),
        meter=_meter_key(row),
        scale=row.scale,
        included=_included(row).get(_meter_key(row), ZERO),
        tiers=tuple(_tier(tier) for tier in row.tiers),
    )


def _package(row: PriceComponent, whole_meters: tuple[str, ...]) -> rating.Component:
    return rating.Package(
        **_common(row),
        meter=_meter_key(row),
        scale=row.scale,
        included=_included(row).get(_meter_key(row), ZERO),
        unit_price=_required(row.unit_price, "price"),
    )


def _rate_card(row: PriceComponent, whole_meters: tuple[str, ...]) -> rating.Component:
    return rating.RateCard(
        **_common(row),
        meters=tuple(row.meters) or whole_meters,
        included=_included(row),
        shared=_shared(row),
        split_by=tuple(row.split_by),
        multiplier=row.multiplier,
    )


def _percentage(row: PriceComponent, whole_meters: tuple[str, ...]) -> rating.Component:
    key = _meter_key(row)
    assert row.meter is not None
    if row.plan_version_id is not None and row.plan_version.currency != row.meter.unit:
        raise rating.MeterCurrencyDiffers(key, row.meter.unit, row.plan_version.currency)
    return rating.Percentage(
        **_common(row),
        meter=key,
        included=_included(row).get(key, ZERO),
        percent=_required(row.percent, "percentage"),
        currency=row.meter.unit,
    )


def _cost_plus(row: PriceComponent, whole_meters: tuple[str, ...]) -> rating.Component:
    return rating.CostPlus(
        **_common(row),
        meters=tuple(row.meters) or whole_meters,
        included=_included(row),
        shared=_shared(row),
        split_by=tuple(row.split_by),
        multiplier=row.multiplier,
        floor=row.floor,
        ceiling=row.ceiling,
        scale=row.scale,
    )


def _minimum(row: PriceComponent, whole_meters: tuple[str, ...]) -> rating.Component:
    amount = _required(row.amount, "amount")
    return rating.Minimum(id=str(row.position), label=row.label, amount=amount, of=tuple(map(str, row.counted)))


def _maximum(row: PriceComponent, whole_meters: tuple[str, ...]) -> rating.Component:
    amount = _required(row.amount, "amount")
    return rating.Maximum(id=str(row.position), label=row.label, amount=amount, of=tuple(map(str, row.counted)))


_VALUES = {
    ComponentKind.FLAT_FEE: _flat_fee,
    ComponentKind.PER_UNIT: _per_unit,
    ComponentKind.GRADUATED: _graduated,
    ComponentKind.VOLUME: _volume,
    ComponentKind.PACKAGE: _package,
    ComponentKind.RATE_CARD: _rate_card,
    ComponentKind.PERCENTAGE: _percentage,
    ComponentKind.COST_PLUS: _cost_plus,
    ComponentKind.MINIMUM: _minimum,
    ComponentKind.MAXIMUM: _maximum,
}


def _common(row: PriceComponent) -> dict[str, Any]:
    """What everything that prices usage has."""
    return {
        "id": str(row.position),
        "label": row.label,
        "windows": _windows(row),
        "only_models": tuple(row.only_models),
        "only_labels": tuple((name, tuple(values)) for name, values in sorted(row.only_labels.items())),
        "only_projects": tuple(row.only_projects),
    }


def _require_whole_totals(row: PriceComponent) -> None:
    """A highest value or a count of different users belongs to the whole period and cannot be cut."""
    if row.meter is not None and not row.meter.is_additive and row.windows:
        raise ValueError(f"totals of {row.meter.key} cannot be cut into weekly windows")


def _windows(row: PriceComponent) -> rating.Windows | None:
    return rating.parse_windows(row.windows) if row.windows else None


def _required(value: Decimal | None, name: str) -> Decimal:
    if value is None:
        raise ValueError(f"its {name} is missing")
    return value


def _meter_key(row: PriceComponent) -> str:
    if row.meter is None:
        raise ValueError("its meter is missing")
    return row.meter.key


def _included(row: PriceComponent) -> dict[str, Decimal]:
    return {key: Decimal(units) for key, units in row.included.items()}


def _shared(row: PriceComponent) -> rating.SharedAllowance | None:
    if row.shared_units is None:
        return None
    weights = {key: Decimal(weight) for key, weight in row.shared_weights.items()}
    if not weights:
        raise ValueError("its shared allowance names no meters")
    return rating.SharedAllowance(row.shared_units, weights)


def _tier(tier: Mapping[str, Any]) -> rating.Tier:
    up_to = tier["up_to"]
    return rating.Tier(
        up_to=None if up_to is None else Decimal(up_to),
        unit_price=Decimal(tier["unit_price"]),
        flat=Decimal(tier.get("flat", "0")),
    )
