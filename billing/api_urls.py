"""Addresses of billing's REST API, under /v1/."""

from django.urls import URLPattern, path

from billing.api import (
    bills,
    comparisons,
    coupons,
    credits,
    events,
    forecasts,
    margins,
    subscription_acts,
    subscriptions,
)

urlpatterns: list[URLPattern] = [
    path("bill", bills.RunningBill.as_view(), name="v1_bill"),
    path("budget-suggestion", forecasts.BudgetSuggestion.as_view(), name="v1_budget_suggestion"),
    path("credits", credits.Credits.as_view(), name="v1_credits"),
    path("credits/<str:public_id>", credits.OneCredit.as_view(), name="v1_credit"),
    path("credits/<str:public_id>/movements", credits.CreditMovements.as_view(), name="v1_credit_movements"),
    path("credits/<str:public_id>/reversal", credits.CreditReversal.as_view(), name="v1_credit_reversal"),
    path("events/<path:name>", events.EventByPath.as_view(), name="event"),
    path("event-lines", events.EventLines.as_view(), name="v1_event_lines"),
    path("forecast", forecasts.RunningForecast.as_view(), name="v1_forecast"),
    path("invoices", bills.Invoices.as_view(), name="v1_invoices"),
    path("margins", margins.Margins.as_view(), name="v1_margins"),
    path("coupons", coupons.Coupons.as_view(), name="v1_coupons"),
    path("coupons/<str:coupon_id>", coupons.OneCoupon.as_view(), name="v1_coupon"),
    path("coupons/<str:coupon_id>/archival", coupons.CouponArchival.as_view(), name="v1_coupon_archival"),
    path("subscriptions", subscriptions.Subscriptions.as_view(), name="v1_subscriptions"),
    path("subscriptions/<str:public_id>", subscriptions.OneSubscription.as_view(), name="v1_subscription"),
    path(
        "subscriptions/<str:subscription_id>/change-preview",
        subscriptions.ChangePreview.as_view(),
        name="v1_change_preview",
    ),
    path(
        "subscriptions/<str:subscription_id>/cancel-preview",
        subscriptions.CancelPreview.as_view(),
        name="v1_cancel_preview",
    ),
    *(
        path(f"subscriptions/<str:subscription_id>/{word}", view.as_view(), name=f"v1_subscription_{word}")
        for word, view in subscription_acts.ACTS.items()
    ),
    path(
        "subscriptions/<str:subscription_id>/coupons",
        subscription_acts.Redemptions.as_view(),
        name="v1_subscription_coupons",
    ),
    path(
        "subscriptions/<str:subscription_id>/coupons/<str:redemption_id>",
        subscription_acts.RedemptionWithdrawal.as_view(),
        name="v1_subscription_coupon",
    ),
    path("tariff-comparison", comparisons.TariffComparison.as_view(), name="v1_tariff_comparison"),
    path("invoices/<str:number>", bills.OneInvoice.as_view(), name="v1_invoice"),
]
