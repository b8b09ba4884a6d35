"""A sandbox and the real SDK pointed at it; Stripe's document is loaded once for all tests."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from billing.sandbox import Document, Sandbox, load_document
from tests.billing.sandbox.sdk import client_of


@pytest.fixture(scope="session")
def document() -> Document:
    return load_document(Path(os.environ["KILOTOKEN_DATA"]) / "stripe-sandbox")


@pytest.fixture
def sandbox(document: Document) -> Iterator[Sandbox]:
    """Nothing that a test makes it answer may break Stripe's document."""
    with Sandbox(document=document) as running:
        yield running
        assert running.get_control("summary")["own_faults"] == []


@pytest.fixture
def api(sandbox: Sandbox) -> Any:
    return client_of(sandbox)


@pytest.fixture
def customer(api: Any) -> Any:
    return api.customers.create({"email": "billing@acme.test", "name": "Acme"})


@pytest.fixture
def make_draft(api: Any, customer: Any) -> Callable[..., Any]:
    """A draft with lines of the given amounts, for a customer who pays by hand."""

    def make(*amounts: int, **params: Any) -> Any:
        terms = {"collection_method": "send_invoice", "days_until_due": 30}
        if params.get("collection_method") == "charge_automatically":
            terms = {}
        invoice = api.invoices.create({"customer": customer.id, "currency": "usd", **terms, **params})
        if amounts:
            lines = [{"amount": amount, "description": f"Tokens {amount}"} for amount in amounts]
            invoice = api.invoices.add_lines(invoice.id, {"lines": lines})
        return invoice

    return make


@pytest.fixture
def make_open(api: Any, make_draft: Callable[..., Any]) -> Callable[..., Any]:
    """A finalised invoice."""

    def make(*amounts: int, **params: Any) -> Any:
        return api.invoices.finalize_invoice(make_draft(*amounts, **params).id)

    return make
