"""What a plan charges, said in words: for the pricing page, the plan page and the admin. Computes nothing."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from decimal import Decimal

from django.db.models import Prefetch

from accounts.models import Organisation
from billing import rating
from billing.catalogue import components_of
from billing.models import Plan, PlanVersion, PriceComponent
from billing.money import format_exact, format_quantity, format_unit_price
from billing.periods import Cadence
from billing.plan_limits import specs_of
from metering.limits_page import WINDOW_WORDS
from metering.models import Enforcement, Measure, Meter
from metering.quotas import QuotaSpec


@dataclass(frozen=True, slots=True)
class ComponentWords:
    """One part of a plan: what it is called, the price in short, and what else there is to know."""

    label: str
    price: str
    details: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class PlanOffer:
    """A plan as customers see it."""

    plan: Plan
    version: PlanVersion
    # The fixed fee per period in short, "$49.00"; "$0.00" where there is none.
    fee: str
    # How often it is charged: "a month", "every 3 months".
    per: str
    components: tuple[ComponentWords, ...]


def offers(organisation: Organisation | None = None) -> list[PlanOffer]:
    """The plans that customers may choose themselves, in the operator's order; those made for the organisation too."""
    names = meter_names()
    published = PlanVersion.objects.filter(published_at__isnull=False).order_by("-number")
    rows = published.prefetch_related("components__meter")
    plans = Plan.objects.on_offer(organisation).prefetch_related(Prefetch("versions", rows, to_attr="published"))
    versions = [plan.published[0] for plan in plans if plan.published]
    return [offer_of(version, names) for version in versions]


def offer_of(version: PlanVersion, names: dict[str, str] | None = None) -> PlanOffer:
    names = meter_names() if names is None else names
    components = components_of(version)
    labels = {component.id: component.label for component in components}
    fees = [component.amount for component in components if isinstance(component, rating.FlatFee)]
    return PlanOffer(
        plan=version.plan,
        version=version,
        fee=format_exact(sum(fees, Decimal(0)), version.currency),
        per=Cadence(version.cadence).per,
        components=(
            *(_timed_words_of(one, version, names, labels) for one in components),
            *_credit(version),
            *_limits_of(version, names),
        ),
    )


def _limits_of(version: PlanVersion, names: dict[str, str]) -> list[ComponentWords]:
    """What the plan limits, if anything."""
    limits = [_limit_in_words(spec, names) for spec in specs_of(version)]
    return [ComponentWords("Limits", limits[0], tuple(limits[1:]))] if limits else []


def _limit_in_words(spec: QuotaSpec, names: dict[str, str]) -> str:
    """ "300 requests per minute", "Warned from 1,000,000 input tokens per day on"."""
    match spec.measure:
        case Measure.SPEND:
            what = f"{format_exact(spec.amount, spec.currency)} of spend"
        case Measure.CONCURRENT:
            what = f"{format_quantity(spec.amount)} calls at the same time"
        case Measure.REQUESTS:
            what = f"{format_quantity(spec.amount)} requests"
        case _:
            what = f"{format_quantity(spec.amount)} {names.get(spec.meter_key, spec.meter_key).lower()}"
    words = [what] if spec.measure == Measure.CONCURRENT else [what, WINDOW_WORDS[spec.window]]
    words += [f"on {', '.join(spec.models)}"] if spec.models else []
    sentence = " ".join(words)
    return sentence if spec.enforcement == Enforcement.HARD else f"{sentence}, then only a warning"


def component_in_words(row: PriceComponent) -> ComponentWords:
    """One row by itself, as its kind is said."""
    version = row.plan_version
    labels = {component.id: component.label for component in components_of(version)}
    names = meter_names()
    value = next(component for component in components_of(version) if component.id == str(row.position))
    return _timed_words_of(value, version, names, labels)


def meter_names() -> dict[str, str]:
    return dict(Meter.objects.values_list("key", "name"))


def _timed_words_of(
    component: rating.Component, version: PlanVersion, names: dict[str, str], labels: dict[str, str]
) -> ComponentWords:
    words = words_of(component, version, names, labels)
    return replace(words, details=(*words.details, *_filters(component)))


def _filters(component: rating.Component) -> list[str]:
    """What of its meters' usage the component prices."""
    details = [f"For {', '.join(component.only_models)}"] if component.only_models else []
    for name, values in component.only_labels:
        details.append(f"Only {name.replace('_', ' ')} {' or '.join(values)}")
    if component.only_projects:
        details.append("Only some projects")
    return [*details, f"Only {component.windows}"] if component.windows else details


def words_of(
    component: rating.Component, version: PlanVersion, names: dict[str, str], labels: dict[str, str]
) -> ComponentWords:
    """`names` are of meters by key, `labels` of the version's components by id."""
    match component:
        case rating.FlatFee():
            timing = "in advance" if component.in_advance else "afterwards"
            amount = format_exact(component.amount, version.currency)
            return ComponentWords(component.label, f"{amount} {Cadence(version.cadence).per}", (f"Charged {timing}",))
        case rating.PerUnit():
            price = format_unit_price(component.unit_price, scale=component.scale, currency=version.currency)
            return ComponentWords(
                component.label, f"{price} {_noun(component.meter, names)}", _limits(component, version)
            )
        case rating.Graduated():
            tiers = _tiers(component, version.currency)
            return ComponentWords(
                component.label,
                f"{tiers[0]} {_noun(component.meter, names)}",
                (*tiers[1:], *_limits(component, version)),
            )
        case rating.Volume():
            tiers = _tiers(component, version.currency)
            return ComponentWords(
                component.label,
                f"{tiers[0]} {_noun(component.meter, names)}",
                (*tiers[1:], "The tier reached prices all of it", *_limits(component, version)),
            )
        case rating.Package():
            price = format_exact(component.unit_price, version.currency)
            block = f"started {format_quantity(component.scale)} {_noun(component.meter, names)}"
            return ComponentWords(component.label, f"{price} per {block}", _limits(component, version))
        case rating.Percentage():
            share = f"{format_quantity(component.percent)}% of {_noun(component.meter, names)}"
            free = (f"{format_exact(component.included, version.currency)} free {Cadence(version.cadence).each}",)
            return ComponentWords(component.label, share, free if component.included else ())
        case rating.CostPlus():
            details = (*_bounds(component, version.currency), *_card_details(component, version, names))
            return ComponentWords(component.label, _discount(component.multiplier, "provider cost"), details)
        case rating.RateCard():
            return ComponentWords(
                component.label, _discount(component.multiplier), _card_details(component, version, names)
            )
        case rating.Bound():
            amount = format_exact(component.amount, version.currency)
            reach = "At least" if isinstance(component, rating.Minimum) else "At most"
            counted = [labels[id] for id in component.of]
            details = (f"Counts {_list(counted)}",) if counted else ()
            return ComponentWords(component.label, f"{reach} {amount} {Cadence(version.cadence).per}", details)
        case _:
            return ComponentWords(component.label, "")


def _credit(version: PlanVersion) -> list[ComponentWords]:
    """What credit each period brings."""
    if version.credit_amount is None:
        return []
    amount = format_exact(version.credit_amount, version.currency)
    return [
        ComponentWords(
            "Credit included",
            f"{amount} {Cadence(version.cadence).per}",
            ("Pays for usage, not for fees", _staying(version)),
        )
    ]


def _staying(version: PlanVersion) -> str:
    if not version.credit_rolls_for:
        return "What is left ends with its period"
    more = "one more period" if version.credit_rolls_for == 1 else f"{version.credit_rolls_for} more periods"
    most = version.credit_most_rolled
    bound = "" if most is None else f", at most {format_exact(most, version.currency)} in all"
    return f"What is left stays for {more}{bound}"


def _noun(meter: str, names: dict[str, str]) -> str:
    return names.get(meter, meter).lower()


def _limits(component: rating.MeterComponent, version: PlanVersion) -> tuple[str, ...]:
    details = []
    if component.included:
        details.append(f"{format_quantity(component.included)} included {Cadence(version.cadence).each}")
    return tuple(details)


def _tiers(component: rating.Graduated | rating.Volume, currency: str) -> list[str]:
    words = []
    for place, tier in enumerate(component.tiers):
        price = format_unit_price(tier.unit_price, scale=component.scale, currency=currency)
        fee = f", plus {format_exact(tier.flat, currency)}" if tier.flat else ""
        words.append(f"{_reach(tier, is_first=place == 0)}{price}{fee}")
    return words


def _reach(tier: rating.Tier, *, is_first: bool) -> str:
    if tier.up_to is not None:
        return f"Up to {format_quantity(tier.up_to)}: "
    return "" if is_first else "Beyond that: "


def _bounds(component: rating.CostPlus, currency: str) -> list[str]:
    bounds = (("At least", component.floor), ("At most", component.ceiling))
    return [
        f"{reach} {format_unit_price(bound, scale=component.scale, currency=currency)}"
        for reach, bound in bounds
        if bound is not None
    ]


def _discount(multiplier: Decimal, base: str = "the price list") -> str:
    if multiplier == 1:
        return f"At {base}"
    percent = format_quantity(abs(1 - multiplier) * 100)
    return f"{percent}% {'below' if multiplier < 1 else 'above'} {base}"


def _card_details(component: rating.RateCard, version: PlanVersion, names: dict[str, str]) -> tuple[str, ...]:
    meters = [_noun(meter, names) for meter in component.meters]
    details = [_sentence(meters)] if meters else []
    for meter, units in component.included.items():
        details.append(f"{format_quantity(units)} {_noun(meter, names)} included {Cadence(version.cadence).each}")
    if component.shared is not None:
        details.append(_pool(component.shared, version, names))
    return tuple(details)


def _pool(shared: rating.SharedAllowance, version: PlanVersion, names: dict[str, str]) -> str:
    """ "1,000,000 credits included each month: 1 for input tokens, 5 for output tokens"."""
    weights = [f"{format_quantity(weight)} for {_noun(meter, names)}" for meter, weight in shared.weights.items()]
    return f"{format_quantity(shared.units)} credits included {Cadence(version.cadence).each}: {_list(weights)}"


def _sentence(words: Sequence[str]) -> str:
    """ "Input tokens, cached input tokens and output tokens"."""
    text = _list(words)
    return text[:1].upper() + text[1:]


def _list(words: Sequence[str]) -> str:
    return f"{', '.join(words[:-1])} and {words[-1]}" if len(words) > 1 else words[0]
