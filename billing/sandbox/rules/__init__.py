"""Stripe's rules: what each endpoint we know does to an account. Endpoints without a rule are answered generically.

Importing the modules registers their rules; `behaviour_of` finds the one for a call.
"""

from billing.sandbox.rules import (  # noqa: F401 - importing registers the rules
    checkout,
    credit_notes,
    customers,
    invoice_items,
    invoices,
    payments,
    webhook_endpoints,
)
from billing.sandbox.rules.registry import behaviour_of

__all__ = ["behaviour_of"]
