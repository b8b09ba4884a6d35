"""Which meters a report adds up, and what cannot be added: other units, parts and their whole, maxima and averages."""

from collections.abc import Sequence

from accounts.errors import DomainError
from accounts.remembering import remembered
from metering.models import Meter, MeterRevision


class UnknownMeterError(DomainError):
    code = "unknown_meter"
    status = 400


class NotAdditiveError(DomainError):
    code = "not_additive"
    status = 400


class MixedUnitsError(DomainError):
    code = "mixed_units"
    status = 400


def choose_meters(keys: Sequence[str], *, is_split: bool) -> list[Meter]:
    """The meters with these keys, in their order. Without keys all of them or, where they do not each get figures of
    their own (`is_split`), those whose totals may be added.
    """
    every = all_meters()
    if keys:
        chosen = [meter for meter in every if meter.key in keys]
        _refuse_unknown(keys, chosen)
    else:
        chosen = [meter for meter in every if is_split or meter.is_additive]
    if not is_split and len(chosen) > 1:
        _refuse_not_additive(chosen)
        _refuse_mixture(chosen)
    return chosen


def token_meters() -> tuple[str, ...]:
    """Keys of the meters whose sum is the tokens in total: exclusive pools only, so nothing is added twice."""
    return tuple(
        meter.key for meter in all_meters() if meter.unit == "tokens" and meter.is_additive and meter.part_of is None
    )


def partial_meters() -> frozenset[str]:
    """Keys of the meters that are part of another: adding them to their whole would count them twice."""
    return frozenset(meter.key for meter in all_meters() if meter.part_of is not None)


def whole_meters() -> tuple[str, ...]:
    """Keys of the meters that are not part of another."""
    return tuple(meter.key for meter in all_meters() if meter.part_of is None)


@remembered
def label_names() -> tuple[str, ...]:
    """The dimensions that series have as labels, of all meters and their revisions, in the order of names."""
    definitions: list[Meter | MeterRevision] = [*all_meters(), *MeterRevision.objects.all()]
    return tuple(sorted({name for one in definitions for name in (*one.dimensions, *one.tiers)} - {"model"}))


@remembered
def all_meters() -> tuple[Meter, ...]:
    return tuple(Meter.objects.select_related("part_of"))


def _refuse_unknown(keys: Sequence[str], chosen: Sequence[Meter]) -> None:
    unknown = sorted(set(keys) - {meter.key for meter in chosen})
    if unknown:
        raise UnknownMeterError(f"There is no meter called {', '.join(map(repr, unknown))}.")


def _refuse_not_additive(chosen: Sequence[Meter]) -> None:
    for meter in chosen:
        if not meter.is_additive:
            raise NotAdditiveError(
                f"{meter.name} ({meter.get_aggregation_display().lower()}) cannot be added to others: choose it alone, "
                "or group by meter."
            )


def _refuse_mixture(chosen: Sequence[Meter]) -> None:
    units = sorted({meter.unit for meter in chosen})
    if len(units) > 1:
        raise MixedUnitsError(
            f"{' and '.join(units)} cannot be added up: choose meters of one unit, or group by meter."
        )
    keys = {meter.key for meter in chosen}
    for meter in chosen:
        if meter.part_of is not None and meter.part_of.key in keys:
            raise MixedUnitsError(
                f"{meter.name} are part of {meter.part_of.name} and would count twice: choose one, or group by meter."
            )
