"""What is told to Stripe and what it tells, as values of our own, and how calls go wrong. Imports nothing of ours."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any


class StripeFailure(Exception):
    """A call did not succeed. `str()` is fit for the operator; it never holds a secret."""


class TemporaryFailure(StripeFailure):
    """The network, a rate limit or Stripe itself: the same call may succeed later."""


class Refused(StripeFailure):
    """Stripe understood and said no; trying again changes nothing until a person acts."""

    def __init__(self, message: str, *, code: str = "", param: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.param = param

    @property
    def is_missing_customer(self) -> bool:
        return self.code == "resource_missing" and self.param == "customer"


class BadSignature(StripeFailure):
    """A webhook that none of the configured secrets signed."""


@dataclass(frozen=True, slots=True)
class RemoteInvoice:
    """An invoice as Stripe knows it. Amounts in minor units, `currency` in capitals."""

    id: str
    status: str
    currency: str
    total: int
    amount_paid: int
    amount_due: int
    hosted_url: str
    metadata: Mapping[str, str]
    has_discounts: bool
    # Null until paid.
    paid_at: datetime | None


@dataclass(frozen=True, slots=True)
class RemoteLine:
    """One line to be added: `key` finds it again, `amount` in minor units."""

    key: str
    amount: int
    description: str
    start: datetime
    end: datetime


@dataclass(frozen=True, slots=True)
class RemoteEvent:
    """What a webhook or the list of events tells; the object itself is retrieved afresh."""

    id: str
    type: str
    created_at: datetime
    object_id: str
    is_live: bool
    payload: dict[str, Any]


@dataclass(frozen=True, slots=True)
class NewCustomer:
    """What a customer is made with. `organisation` is our public id, kept in Stripe's metadata."""

    organisation: str
    name: str
    email: str


@dataclass(frozen=True, slots=True)
class NewInvoice:
    """What a draft is made with; all of it from the frozen invoice, so that a retry sends the same."""

    customer: str
    number: str
    currency: str
    days_until_due: int
    description: str
    digest: str


@dataclass(frozen=True, slots=True)
class NewCheckout:
    """One payment of one amount, in minor units. `purchase` is our public id, kept in Stripe's metadata."""

    customer: str
    purchase: str
    amount: int
    currency: str
    description: str
    return_url: str


@dataclass(frozen=True, slots=True)
class RemoteCheckout:
    """A Checkout session as Stripe knows it: `status` open, complete or expired; `payment_status` paid or unpaid."""

    id: str
    # Where it is paid; empty once it is over.
    url: str
    status: str
    payment_status: str
    amount: int
    currency: str
    purchase: str
    payment_intent: str
    # Of one that is complete and unpaid: the payment was under way and did not come.
    has_failed: bool
