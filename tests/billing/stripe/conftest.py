"""The sandbox in place of Stripe, and invoices that wait to be pushed."""

import itertools
import os
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest
import stripe
from django.conf import settings as django_settings

from billing.models import Invoice, InvoiceLine, Plan, StripeInvoice, Subscription
from billing.models.invoices import LineKind
from billing.sandbox import Sandbox, load_document

WEBHOOK_SECRET = "whsec_test"
NOW = datetime(2026, 11, 3, 9, 0, tzinfo=UTC)
OCTOBER = (datetime(2026, 10, 1, tzinfo=UTC), datetime(2026, 11, 1, tzinfo=UTC))


@pytest.fixture(scope="session")
def _sandbox_process() -> Iterator[Sandbox]:
    with Sandbox(document=load_document(Path(os.environ["KILOTOKEN_DATA"]) / "stripe-sandbox")) as sandbox:
        yield sandbox


@pytest.fixture
def sandbox(_sandbox_process, settings, monkeypatch) -> Sandbox:
    """A fresh account at the stand-in for Stripe, and settings that point there."""
    _sandbox_process.post_control("reset")
    monkeypatch.setattr(stripe._http_client.HTTPClient, "INITIAL_DELAY", 0.01)
    monkeypatch.setattr(stripe._http_client.HTTPClient, "MAX_DELAY", 0.02)
    settings.STRIPE_SECRET_KEY = "sk_test_kilotoken"
    settings.STRIPE_API_BASE = _sandbox_process.url
    settings.STRIPE_WEBHOOK_SECRETS = [WEBHOOK_SECRET]
    settings.STRIPE_ENVIRONMENT = "test"
    return _sandbox_process


_numbers = itertools.count(1)


@pytest.fixture
def finalised_invoice(acme) -> Callable[..., Invoice]:
    """Makes an invoice as finalising leaves it: frozen, numbered, and waiting to be pushed."""

    def make(*, amounts: list[int] = [1234, 55, 0], currency: str = "USD") -> Invoice:  # noqa: B006
        subscription = _subscription(acme, currency)
        number = next(_numbers)
        start, end = OCTOBER[0] + timedelta(days=40 * number), OCTOBER[1] + timedelta(days=40 * number)
        invoice = Invoice.objects.create(
            organisation=acme,
            number=f"KT-2026-{number:05}",
            subscription=subscription,
            plan_name="Pay as you go",
            period_start=start,
            period_end=end,
            currency=currency,
            total_exact=Decimal(sum(amounts)) / 100,
            total_minor=sum(amounts),
            parties={"seller": {"name": "Kilotoken"}, "buyer": {"name": "Acme GmbH", "email": "bills@acme.example"}},
            evidence={},
            finalised_at=NOW,
            due_at=NOW + timedelta(days=14),
        )
        InvoiceLine.objects.bulk_create(_line(invoice, position, amount) for position, amount in enumerate(amounts, 1))
        StripeInvoice.objects.create(invoice=invoice, environment=django_settings.STRIPE_ENVIRONMENT)
        return invoice

    return make


def _subscription(acme, currency: str) -> Subscription:
    found = Subscription.objects.for_organisation(acme).first()
    if found is not None:
        return found
    Plan.objects.get_or_create(key="pay-as-you-go", defaults={"name": "Pay as you go"})
    return Subscription.objects.create(
        organisation=acme, currency=currency, cadence="month", anchor_at=OCTOBER[0], time_zone="Europe/Berlin"
    )


def _line(invoice: Invoice, position: int, amount: int) -> InvoiceLine:
    return InvoiceLine(
        invoice=invoice,
        position=position,
        kind=LineKind.USAGE,
        key=f"usage:{position}",
        description=f"gpt-4o-mini input tokens, part {position}",
        meter="input_tokens",
        model=f"model-{position % 40}",
        quantity=Decimal(1000),
        included=Decimal(0),
        billable=Decimal(1000),
        unit_price=Decimal("0.15"),
        scale=Decimal(1_000_000),
        amount_exact=Decimal(amount) / 100,
        amount_minor=amount,
        explanation="1,000 input tokens × $0.15 per 1,000,000",
        period_start=invoice.period_start,
        period_end=invoice.period_end,
    )
