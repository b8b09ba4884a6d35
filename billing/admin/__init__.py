"""The operators' pages for billing. Every change goes through the verbs, so that it is checked and audited."""

from billing.admin import (
    catalogue,
    components,
    coupons,
    credits,
    credits_checks,
    invoices,
    margins,
    plan_moves,
    price_corrections,
    price_proposals,
    prices,
    stripe_rows,
    subscriptions,
)

__all__ = [
    "catalogue",
    "components",
    "coupons",
    "credits",
    "credits_checks",
    "invoices",
    "margins",
    "plan_moves",
    "price_corrections",
    "price_proposals",
    "prices",
    "stripe_rows",
    "subscriptions",
]
