"""Proposals for the price book: what a source says and the book does not, stored to be looked at, then accepted.

Nothing becomes a price by itself. Accepting adds the chosen rows, all or none, and refuses where the book has changed
under them meanwhile. Where the book has prices for a thing already, its past is left alone: a source changes what holds
from now on, or from the day that it names.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from decimal import Decimal
from fnmatch import fnmatchcase
from typing import Any

from django.db import transaction
from django.http import HttpRequest

from accounts.audit import Actor, person, record
from accounts.errors import DomainError
from billing import rating
from billing.models import Price, PriceKind, PriceProposal, ProposedPrice
from billing.models.price_proposals import PriceChange, ProposalState
from billing.periods import QUARTER_HOUR, quarter_hour_floor
from billing.price_book import add_price, wait_for_writers
from billing.published_prices import (
    CURRENCY,
    SOURCE,
    PublishedModel,
    PublishedPrice,
    find_published,
    published_models,
)
from metering.models import Meter, Series


class NothingToPropose(DomainError):
    code = "nothing_to_propose"
    sentence = "The price book says all of it already."


class ProposalSettled(DomainError):
    code = "proposal_settled"
    sentence = "This proposal has been decided."


class ProposalOutdated(DomainError):
    code = "proposal_outdated"
    sentence = "The price book has changed since this proposal was made. Make a new one."


class UnknownProvider(DomainError):
    code = "unknown_provider"
    sentence = "The published prices know no such provider."


@dataclass(frozen=True, slots=True, kw_only=True)
class WantedPrice:
    """A row as a source says it."""

    meter: Meter
    model: str
    amount: Decimal
    scale: Decimal
    valid_from: datetime
    valid_until: datetime | None = None
    kind: str = PriceKind.COST
    currency: str = CURRENCY
    windows: str = ""
    conditions: rating.Conditions = rating.ANYTHING
    origin: str = ""  # whose price it is

    @property
    def slot(self) -> "Slot":
        return self.kind, self.meter.pk, self.model, self.currency, self.windows, self.conditions


type Slot = tuple[str, int, str, str, str, rating.Conditions]


@dataclass(slots=True)
class _Draft:
    rows: list[tuple[str, WantedPrice, Price | None]] = field(default_factory=list)
    unchanged: int = 0


def propose_published(
    *,
    now: datetime,
    kind: str = PriceKind.COST,
    provider: str = "",
    models: Sequence[str] = (),
    actor: Actor = None,
) -> PriceProposal:
    """What the published prices say, of the models in use, or of all that a provider has; only those whose names match
    one of the patterns in `models`, where there are any. Raises UnknownProvider and NothingToPropose."""
    meters = {meter.key: meter for meter in Meter.objects.active()}
    found, unmappable = _published(provider, models, meters)
    draft = _Draft()
    standing = _standing(kind, found)
    for model, published in found.items():
        origin = f"{published.provider}: {published.model}"
        wanted = [_wanted(price, meters, model, kind, origin) for price in published.prices]
        _compare_model(wanted, standing.get(model, {}), now, draft)
    return _store(draft, SOURCE, unmappable, now=now, actor=actor)


def propose_rows(wanted: Iterable[WantedPrice], *, source: str, now: datetime, actor: Actor = None) -> PriceProposal:
    """Rows of a file, each as it is written: known already, another amount for the same, or new. Raises
    NothingToPropose."""
    draft = _Draft()
    rows = list(wanted)
    standing: dict[Slot, list[Price]] = defaultdict(list)
    for price in Price.objects.standing().filter(model__in={row.model for row in rows}).select_related("meter"):
        standing[_slot(price)].append(price)
    for row in rows:
        same = [price for price in standing[row.slot] if price.valid_from == row.valid_from]
        if any(_says(price) == (row.amount, row.scale, row.valid_until) for price in same):
            draft.unchanged += 1
        else:
            change = PriceChange.CHANGED if same else PriceChange.NEW
            draft.rows.append((change, row, same[-1] if same else None))
    return _store(draft, source, [], now=now, actor=actor)


def accept_proposal(
    proposal: PriceProposal,
    *,
    now: datetime,
    selected: Iterable[int] | None = None,
    actor: Actor = None,
    request: HttpRequest | None = None,
) -> list[Price]:
    """Add the selected rows (by primary key; those marked as such unless given) to the price book, all or none. Raises
    ProposalSettled and ProposalOutdated."""
    with transaction.atomic():
        locked = _lock(proposal)
        wait_for_writers()
        rows = list(locked.rows.select_related("meter", "instead_of"))
        chosen = {row.pk for row in rows if row.is_selected} if selected is None else set(selected)
        for row in rows:
            row.is_selected = row.pk in chosen
        _require_standing(row for row in rows if row.is_selected)
        prices = []
        for row in rows:
            if row.is_selected:
                row.price = _accept(row, locked.source, actor=actor, request=request)
                prices.append(row.price)
        ProposedPrice.objects.bulk_update(rows, ["is_selected", "price"], batch_size=500)
        _settle(locked, ProposalState.ACCEPTED, now, {"added": len(prices)}, actor=actor, request=request)
    return prices


def discard_proposal(
    proposal: PriceProposal, *, now: datetime, actor: Actor = None, request: HttpRequest | None = None
) -> PriceProposal:
    """Raises ProposalSettled."""
    with transaction.atomic():
        locked = _lock(proposal)
        _settle(locked, ProposalState.DISCARDED, now, {}, actor=actor, request=request)
    return locked


def _published(
    provider: str, patterns: Sequence[str], meters: Iterable[str]
) -> tuple[dict[str, PublishedModel], list[dict[str, str]]]:
    """By the name that usage has, and what cannot be taken over."""
    if provider:
        try:
            found = {published.model: published for published in published_models(provider, meters)}
        except LookupError as error:
            raise UnknownProvider from error
        missing = []
    else:
        used = sorted(set(Series.objects.exclude(model="").values_list("model", flat=True).distinct()))
        looked_up = {model: find_published(model, meters) for model in used if _is_wanted(model, patterns)}
        found = {model: published for model, published in looked_up.items() if published is not None}
        missing = [{"model": model, "detail": "not published"} for model in looked_up if model not in found]
    found = {model: published for model, published in found.items() if _is_wanted(model, patterns)}
    details = [{"model": name, "detail": detail} for name, one in found.items() for detail in one.unmappable]
    return found, missing + details


def _is_wanted(model: str, patterns: Sequence[str]) -> bool:
    return not patterns or any(fnmatchcase(model, pattern) for pattern in patterns)


def _wanted(price: PublishedPrice, meters: dict[str, Meter], model: str, kind: str, origin: str) -> WantedPrice:
    return WantedPrice(
        meter=meters[price.meter],
        model=model,
        amount=price.amount,
        scale=price.scale,
        valid_from=price.valid_from,
        valid_until=price.valid_until,
        kind=kind,
        windows=price.windows,
        conditions=price.conditions,
        origin=origin,
    )


def _standing(kind: str, models: Iterable[str]) -> dict[str, dict[Slot, list[Price]]]:
    """By model and slot, in the order in which they became known."""
    found: dict[str, dict[Slot, list[Price]]] = defaultdict(lambda: defaultdict(list))
    rows = Price.objects.standing().filter(kind=kind, currency=CURRENCY, model__in=list(models))
    for price in rows.select_related("meter").order_by("valid_from", "known_from", "pk"):
        found[price.model][_slot(price)].append(price)
    return found


def _compare_model(
    wanted: Sequence[WantedPrice], standing: dict[Slot, list[Price]], now: datetime, draft: _Draft
) -> None:
    slots: dict[Slot, list[WantedPrice]] = defaultdict(list)
    for row in wanted:
        slots[row.slot].append(row)
    for slot, rows in slots.items():
        if slot in standing:
            _compare_slot(rows, standing[slot], now, draft)
        else:
            draft.rows += [(PriceChange.NEW, row, None) for row in rows]
    for slot, prices in standing.items():
        current = _in_force(prices, now)
        if slot not in slots and current is not None and current.source.startswith("genai-prices"):
            draft.rows.append((PriceChange.GONE, _ending(current, now), current))


def _compare_slot(rows: Sequence[WantedPrice], prices: Sequence[Price], now: datetime, draft: _Draft) -> None:
    """The book's past is its own; what the source has in force now, or from a later day on, is compared."""
    current, said = _in_force(prices, now), _in_force(rows, now)
    if said is not None:
        if current is not None and _unit(current) == _unit(said):
            draft.unchanged += 1
        else:
            since = max(said.valid_from, current.valid_from) if current is not None else said.valid_from
            is_dated = current is None or said.valid_from > current.valid_from
            start = since if is_dated else _next_quarter_hour(now)
            draft.rows.append((PriceChange.CHANGED, replace(said, valid_from=start), current))
    known = {(price.valid_from, *_unit(price)) for price in prices}
    coming = [row for row in rows if row.valid_from > now and (row.valid_from, *_unit(row)) not in known]
    draft.rows += [(PriceChange.CHANGED, row, current) for row in coming]


def _in_force[T: (Price, WantedPrice)](rows: Sequence[T], now: datetime) -> T | None:
    holding = [row for row in rows if row.valid_from <= now and (row.valid_until is None or row.valid_until > now)]
    return max(holding, key=lambda row: row.valid_from, default=None)


def _unit(row: Price | WantedPrice) -> tuple[Decimal]:
    return (row.amount / row.scale,)


def _says(price: Price) -> tuple[Decimal, Decimal, datetime | None]:
    return price.amount, price.scale, price.valid_until


def _slot(price: Price) -> Slot:
    return price.kind, price.meter_id, price.model, price.currency, price.windows, price.conditions


def _ending(price: Price, now: datetime) -> WantedPrice:
    return WantedPrice(
        meter=price.meter,
        model=price.model,
        amount=price.amount,
        scale=price.scale,
        valid_from=price.valid_from,
        valid_until=max(_next_quarter_hour(now), price.valid_from + QUARTER_HOUR),
        kind=price.kind,
        currency=price.currency,
        windows=price.windows,
        conditions=price.conditions,
    )


def _next_quarter_hour(now: datetime) -> datetime:
    return quarter_hour_floor(now) + QUARTER_HOUR


def _store(
    draft: _Draft, source: str, unmappable: list[dict[str, str]], *, now: datetime, actor: Actor
) -> PriceProposal:
    if not draft.rows:
        raise NothingToPropose
    user = person(actor)
    with transaction.atomic():
        proposal = PriceProposal.objects.create(
            source=source[:120],
            made_at=now,
            made_by=(user.email if user else str(actor or "system"))[:254],
            unchanged_count=draft.unchanged,
            unmappable=unmappable,
        )
        ProposedPrice.objects.bulk_create(
            (_row(proposal, place, *one) for place, one in enumerate(draft.rows, start=1)), batch_size=1000
        )
        _record("price_proposal.made", proposal, {"rows": len(draft.rows)}, actor=actor, request=None)
    return proposal


def _row(
    proposal: PriceProposal, position: int, change: str, wanted: WantedPrice, instead_of: Price | None
) -> ProposedPrice:
    return ProposedPrice(
        proposal=proposal,
        position=position,
        change=change,
        origin=wanted.origin,
        instead_of=instead_of,
        is_selected=change != PriceChange.GONE,
        kind=wanted.kind,
        meter=wanted.meter,
        model=wanted.model,
        currency=wanted.currency,
        amount=wanted.amount,
        scale=wanted.scale,
        valid_from=wanted.valid_from,
        valid_until=wanted.valid_until,
        windows=wanted.windows,
        service_tier=wanted.conditions.service_tier,
        context_above=wanted.conditions.context_above,
        context_up_to=wanted.conditions.context_up_to,
        cache_ttl=wanted.conditions.cache_ttl,
        region=wanted.conditions.region,
    )


def _lock(proposal: PriceProposal) -> PriceProposal:
    locked = PriceProposal.objects.select_for_update().get(pk=proposal.pk)
    if locked.state != ProposalState.OPEN:
        raise ProposalSettled
    return locked


def _require_standing(rows: Iterable[ProposedPrice]) -> None:
    compared = {row.instead_of_id for row in rows if row.instead_of_id is not None}
    if Price.objects.standing().filter(pk__in=compared).count() < len(compared):
        raise ProposalOutdated


def _accept(row: ProposedPrice, source: str, *, actor: Actor, request: HttpRequest | None) -> Price:
    before = row.instead_of
    return add_price(
        row.meter,
        model=row.model,
        currency=row.currency,
        amount=row.amount,
        scale=row.scale,
        valid_from=row.valid_from,
        valid_until=row.valid_until,
        kind=row.kind,
        windows=row.windows,
        conditions=row.conditions,
        source=source,
        supersedes=before if before is not None and before.valid_from == row.valid_from else None,
        actor=actor,
        request=request,
    )


def _settle(
    proposal: PriceProposal,
    state: str,
    now: datetime,
    details: dict[str, Any],
    *,
    actor: Actor,
    request: HttpRequest | None,
) -> None:
    proposal.state, proposal.settled_at = state, now
    proposal.save(update_fields=["state", "settled_at"])
    _record(f"price_proposal.{state}", proposal, details, actor=actor, request=request)


def _record(
    action: str, proposal: PriceProposal, details: dict[str, Any], *, actor: Actor, request: HttpRequest | None
) -> None:
    record(
        action,
        organisation=None,
        actor=actor,
        subject_id=proposal.public_id,
        subject_label=proposal.source,
        details=details,
        request=request,
    )
