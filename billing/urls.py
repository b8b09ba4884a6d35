from django.urls import URLPattern, path

from billing.views import (
    billing_details,
    bills,
    comparison,
    coupons,
    credits,
    forecast,
    invoices,
    overview,
    plan,
    project_shares,
    purchases,
)
from billing.webhooks import stripe_webhook

app_name = "billing"
urlpatterns: list[URLPattern] = [
    path("o/<slug:slug>/", overview.overview, name="overview"),
    path("o/<slug:slug>/bill/", bills.bill, name="bill"),
    path("o/<slug:slug>/bill/projects/", project_shares.bill_by_project, name="bill_by_project"),
    path("o/<slug:slug>/credits/", credits.credit, name="credits"),
    path("o/<slug:slug>/credits/purchases/new/", purchases.credit_purchase_create, name="credit_purchase_create"),
    path("o/<slug:slug>/credits/purchases/<str:public_id>/", purchases.credit_purchase, name="credit_purchase"),
    path(
        "o/<slug:slug>/credits/purchases/<str:public_id>/payment/",
        purchases.credit_purchase_payment,
        name="credit_purchase_payment",
    ),
    path(
        "o/<slug:slug>/credits/purchases/<str:public_id>/cancellation/",
        purchases.credit_purchase_cancellation,
        name="credit_purchase_cancellation",
    ),
    path("o/<slug:slug>/forecast/", forecast.forecast, name="forecast"),
    path("o/<slug:slug>/invoices/", invoices.invoices, name="invoices"),
    path("o/<slug:slug>/invoices/<str:number>/", invoices.invoice, name="invoice"),
    path("o/<slug:slug>/invoices/<str:number>/projects/", project_shares.invoice_by_project, name="invoice_by_project"),
    path("o/<slug:slug>/invoices/<str:number>/payment/", invoices.invoice_payment, name="invoice_payment"),
    path("o/<slug:slug>/plan/", plan.plan, name="plan"),
    path("o/<slug:slug>/plan/comparison/", comparison.tariff_comparison, name="tariff_comparison"),
    path("o/<slug:slug>/plan/subscription/", plan.subscription_create, name="subscription_create"),
    path("o/<slug:slug>/plan/change/", plan.plan_change, name="plan_change"),
    path("o/<slug:slug>/plan/change/withdrawal/", plan.plan_change_withdrawal, name="plan_change_withdrawal"),
    path("o/<slug:slug>/plan/coupon/", coupons.coupon_redemption, name="coupon_redemption"),
    path("o/<slug:slug>/plan/cancellation/", plan.subscription_cancellation, name="subscription_cancellation"),
    path("o/<slug:slug>/plan/resumption/", plan.subscription_resumption, name="subscription_resumption"),
    path("o/<slug:slug>/plan/billing-details/", billing_details.billing_details, name="billing_details"),
    path("stripe/webhook/", stripe_webhook, name="stripe_webhook"),
]
