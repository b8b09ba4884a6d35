"""Plans, prices and usage for billing tests, made through the real verbs. Most of it happens in late 2026."""

from datetime import UTC, datetime
from decimal import Decimal

from django.db import transaction

from accounts.models import Organisation
from billing import catalogue
from billing.crediting import book_draws
from billing.drawing import Charge, is_usable, planned_draws
from billing.holdings import locked_holdings
from billing.models import Invoice, PlanVersion, Price, Subscription
from billing.price_book import add_price
from billing.subscribing import subscribe
from metering.models import Meter
from tests.metering.usage_world import event, fold_all, send

LONG_AGO = datetime(2025, 1, 1, tzinfo=UTC)
TOKENS = ["input_tokens", "cache_read_tokens", "cache_write_tokens", "output_tokens"]


def at(year: int, month: int, day: int = 1, hour: int = 0, minute: int = 0) -> datetime:
    return datetime(year, month, day, hour, minute, tzinfo=UTC)


def meter(key: str) -> Meter:
    return Meter.objects.get(key=key)


def price(
    meter_key: str,
    amount: str,
    *,
    model: str = "",
    currency: str = "USD",
    valid_from: datetime = LONG_AGO,
    valid_until: datetime | None = None,
) -> Price:
    return add_price(
        meter(meter_key),
        model=model,
        currency=currency,
        amount=Decimal(amount),
        valid_from=valid_from,
        valid_until=valid_until,
        actor="test",
    )


def payg(key: str = "payg", *, currency: str = "USD", included: dict[str, Decimal] | None = None) -> PlanVersion:
    """Tokens at the price book, nothing else."""
    version = catalogue.draft_version(
        catalogue.create_plan(key, name=key.replace("-", " ").title(), is_public=True), currency=currency
    )
    catalogue.add_rate_card(version, label="Tokens", meters=TOKENS, included=included)
    return catalogue.publish_version(version, now=LONG_AGO)


def team(key: str = "team", *, fee: str = "49", in_advance: bool = True, cadence: str = "month") -> PlanVersion:
    """A fee and tokens at the price book."""
    version = catalogue.draft_version(
        catalogue.create_plan(key, name=key.title(), is_public=True), currency="USD", cadence=cadence
    )
    catalogue.add_flat_fee(version, label=f"{key.title()} plan", amount=Decimal(fee), in_advance=in_advance)
    catalogue.add_rate_card(version, label="Tokens", meters=TOKENS)
    return catalogue.publish_version(version, now=LONG_AGO)


def subscribed(
    organisation: Organisation, version: PlanVersion, *, anchor: datetime, now: datetime | None = None
) -> Subscription:
    return subscribe(organisation, version, now=now or anchor, anchor=anchor, actor="test")


def use(organisation: Organisation, when: datetime, model: str = "gpt-4o", **units: int) -> None:
    """One call that is metered and folded: use(acme, at(2026, 11, 3), input_tokens=1000)."""
    send(event(organisation.public_id, when, model=model, **units), now=when)
    fold_all(when)


def pay_by_credit(invoice: Invoice, amount: str, now: datetime) -> None:
    """Draw an amount for an invoice that has been made without it."""
    with transaction.atomic():
        held = locked_holdings([invoice.organisation])[invoice.organisation_id]
        holdings = [one for one in held if is_usable(one.grant, now)]
        book_draws([(invoice, planned_draws(holdings, [Charge("input_tokens", Decimal(amount))]))], now)
