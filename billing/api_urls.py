"""Addresses of billing's REST API, under /v1/."""

from django.urls import URLPattern, path

from billing.api import bills, comparisons, credits, events, forecasts

urlpatterns: list[URLPattern] = [
    path("bill", bills.RunningBill.as_view(), name="v1_bill"),
    path("credits", credits.Credits.as_view(), name="v1_credits"),
    path("credits/<str:public_id>", credits.OneCredit.as_view(), name="v1_credit"),
    path("credits/<str:public_id>/movements", credits.CreditMovements.as_view(), name="v1_credit_movements"),
    path("credits/<str:public_id>/reversal", credits.CreditReversal.as_view(), name="v1_credit_reversal"),
    path("events/<path:name>", events.EventByPath.as_view(), name="event"),
    path("event-lines", events.EventLines.as_view(), name="v1_event_lines"),
    path("forecast", forecasts.RunningForecast.as_view(), name="v1_forecast"),
    path("invoices", bills.Invoices.as_view(), name="v1_invoices"),
    path("tariff-comparison", comparisons.TariffComparison.as_view(), name="v1_tariff_comparison"),
    path("invoices/<str:number>", bills.OneInvoice.as_view(), name="v1_invoice"),
]
