"""The operators' pages for billing. Every change goes through the verbs, so that it is checked and audited."""

from billing.admin import catalogue, invoices, margins, prices, stripe_rows, subscriptions

__all__ = ["catalogue", "invoices", "margins", "prices", "stripe_rows", "subscriptions"]
