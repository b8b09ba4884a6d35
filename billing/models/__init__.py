from billing.models.coupons import Coupon, CouponDuration, CouponRedemption
from billing.models.credit_purchases import CreditPurchase, PurchaseState
from billing.models.credits import (
    CreditGrant,
    GrantKind,
    LedgerAccount,
    LedgerEntry,
    LedgerKind,
    LedgerTransaction,
)
from billing.models.credits_checks import CreditsCheck
from billing.models.forecasts import Forecast
from billing.models.invoice_emails import InvoiceEmail
from billing.models.invoices import Invoice, InvoiceCounter, InvoiceLine
from billing.models.margins import MarginDay
from billing.models.payers import BillingDetails
from billing.models.plan_moves import PlanMove, PlanMoveRow
from billing.models.plans import ComponentKind, Plan, PlanVersion, PriceComponent
from billing.models.prepaid import PrepaidTerms
from billing.models.price_book import Price, PriceKind
from billing.models.price_corrections import CorrectedInvoice, PriceCorrection
from billing.models.price_estimates import EstimatesWritten
from billing.models.price_proposals import PriceProposal, ProposedPrice
from billing.models.stripe_mirror import StripeCustomer, StripeEvent, StripeInvoice
from billing.models.subscriptions import Subscription, SubscriptionPause, SubscriptionPhase

__all__ = [
    "BillingDetails",
    "ComponentKind",
    "CorrectedInvoice",
    "Coupon",
    "CouponDuration",
    "CouponRedemption",
    "CreditGrant",
    "CreditPurchase",
    "CreditsCheck",
    "EstimatesWritten",
    "Forecast",
    "GrantKind",
    "Invoice",
    "InvoiceCounter",
    "InvoiceEmail",
    "InvoiceLine",
    "LedgerAccount",
    "LedgerEntry",
    "LedgerKind",
    "LedgerTransaction",
    "MarginDay",
    "Plan",
    "PlanMove",
    "PlanMoveRow",
    "PlanVersion",
    "PrepaidTerms",
    "Price",
    "PriceComponent",
    "PriceCorrection",
    "PriceKind",
    "PriceProposal",
    "ProposedPrice",
    "PurchaseState",
    "StripeCustomer",
    "StripeEvent",
    "StripeInvoice",
    "Subscription",
    "SubscriptionPause",
    "SubscriptionPhase",
]
