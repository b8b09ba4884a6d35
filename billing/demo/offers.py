"""What the demo provider sells: list prices and costs of eight models, three public plans and two coupons."""

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal

from billing import catalogue
from billing.couponing import save_coupon
from billing.models import Coupon, CouponDuration, Plan, PlanVersion, Price, PriceKind
from billing.price_book import add_price
from billing.rating import Tier
from metering.models import Meter

ACTOR = "demo world"
CURRENCY = "USD"
TOKEN_METERS = ("input_tokens", "cache_read_tokens", "cache_write_tokens", "output_tokens")
PRICES_SINCE = datetime(2025, 1, 1, tzinfo=UTC)

# Per million tokens: input, cached input, cache write, output. Illustrative list prices in US dollars.
PRICES: dict[str, tuple[str, str, str, str]] = {
    "gpt-4o": ("2.50", "1.25", "2.50", "10.00"),
    "gpt-4o-mini": ("0.15", "0.075", "0.15", "0.60"),
    "claude-sonnet-4-5": ("3.00", "0.30", "3.75", "15.00"),
    "claude-haiku-4-5": ("1.00", "0.10", "1.25", "5.00"),
    "llama-3.3-70b": ("0.60", "0.60", "0.60", "0.70"),
    "deepseek-v3.2": ("0.28", "0.028", "0.28", "0.42"),
    # The model of the call that newcomers report by hand.
    "gpt-oss-120b": ("0.15", "0.075", "0.15", "0.60"),
    "gemini-2.5-flash": ("0.30", "0.03", "0.30", "2.50"),
}

# What comes with plans: calls at the same time, money a period, tokens a day (of which a customer is only warned).
LIMITS: Mapping[str, Sequence[Mapping[str, str]]] = {
    "team": (
        {"measure": "concurrent", "amount": "20", "window": "none"},
        {"measure": "spend", "amount": "50", "window": "billing_period", "currency": CURRENCY},
    ),
    "scale": (
        {"measure": "concurrent", "amount": "100", "window": "none"},
        {"measure": "spend", "amount": "100", "window": "billing_period", "currency": CURRENCY},
        {
            "measure": "meter",
            "meter": "input_tokens",
            "amount": "1000000",
            "window": "day",
            "enforcement": "soft",
        },
    ),
}

# What the provider pays itself, as a share of the list price; of one model it does not know yet.
SHARE_OF_COST = Decimal("0.6")
WITHOUT_COST = frozenset({"llama-3.3-70b"})


def write_prices() -> None:
    """The price book, row by row, unless it has rows."""
    if Price.objects.exists():
        return
    meters = Meter.objects.in_bulk(TOKEN_METERS, field_name="key")
    for model, amounts in PRICES.items():
        for key, amount in zip(TOKEN_METERS, amounts, strict=True):
            _write(meters[key], model, Decimal(amount), PriceKind.LIST)
            if model not in WITHOUT_COST:
                _write(meters[key], model, Decimal(amount) * SHARE_OF_COST, PriceKind.COST)


def _write(meter: Meter, model: str, amount: Decimal, kind: PriceKind) -> None:
    add_price(
        meter,
        model=model,
        currency=CURRENCY,
        amount=amount,
        valid_from=PRICES_SINCE,
        kind=kind,
        source=ACTOR,
        actor=ACTOR,
    )


def make_coupons() -> None:
    """One that a story redeems and one that nobody has yet, unless they are there."""
    offers = {
        "LEGAL20": Coupon(name="Offer to law firms", percent=Decimal(20), duration=CouponDuration.PERIODS, periods=6),
        "HELLO10": Coupon(name="Hello", amount=Decimal(10), currency=CURRENCY, most_redemptions=100),
    }
    for code, coupon in offers.items():
        if not Coupon.objects.filter(code=code).exists():
            coupon.code = code
            save_coupon(coupon, actor=ACTOR)


def publish_plans(now: datetime) -> None:
    """Pay as you go, Team and Scale, unless they are there."""
    offers = (
        ("pay-as-you-go", "Pay as you go", "List prices by model, nothing else.", _pay_as_you_go),
        ("team", "Team", "A monthly fee with usage included, and a tenth off the rest.", _team),
        ("scale", "Scale", "For steady volume: a quarter off list prices, requests by tier.", _scale),
    )
    for position, (key, name, description, fill) in enumerate(offers, start=1):
        _publish(key, name=name, description=description, position=position * 10, fill=fill, now=now)


def _publish(
    key: str, *, name: str, description: str, position: int, fill: Callable[[PlanVersion], None], now: datetime
) -> None:
    if Plan.objects.filter(key=key, versions__published_at__isnull=False).exists():
        return
    plan = Plan.objects.filter(key=key).first() or catalogue.create_plan(
        key, name=name, description=description, is_public=True, position=position, actor=ACTOR
    )
    version = catalogue.draft_version(plan, currency=CURRENCY)
    fill(version)
    version.limits = list(LIMITS.get(key, ()))
    version.save(update_fields=["limits"])
    catalogue.publish_version(version, now=now, actor=ACTOR)


def _pay_as_you_go(version: PlanVersion) -> None:
    catalogue.add_rate_card(version, label="Tokens", meters=TOKEN_METERS)


def _team(version: PlanVersion) -> None:
    catalogue.add_flat_fee(version, label="Team", amount=Decimal(49), in_advance=True)
    catalogue.add_rate_card(
        version,
        label="Tokens",
        meters=TOKEN_METERS,
        included={"input_tokens": Decimal(2_000_000), "output_tokens": Decimal(250_000)},
        multiplier=Decimal("0.9"),
    )


def _scale(version: PlanVersion) -> None:
    catalogue.add_flat_fee(version, label="Scale", amount=Decimal(199), in_advance=True)
    catalogue.add_rate_card(version, label="Tokens", meters=TOKEN_METERS, multiplier=Decimal("0.75"))
    catalogue.add_graduated(
        version,
        label="Requests",
        meter=Meter.objects.get(key="requests"),
        scale=Decimal(1000),
        tiers=(
            Tier(up_to=Decimal(1000), unit_price=Decimal(0), flat=Decimal(0)),
            Tier(up_to=Decimal(4000), unit_price=Decimal("0.80"), flat=Decimal(0)),
            Tier(up_to=None, unit_price=Decimal("0.50"), flat=Decimal(0)),
        ),
    )
