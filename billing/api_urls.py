"""Addresses of billing's REST API, under /v1/."""

from django.urls import URLPattern, path

from billing import api

urlpatterns: list[URLPattern] = [
    path("bill", api.RunningBill.as_view(), name="v1_bill"),
    path("event-lines", api.EventLines.as_view(), name="v1_event_lines"),
    path("invoices", api.Invoices.as_view(), name="v1_invoices"),
    path("invoices/<str:number>", api.OneInvoice.as_view(), name="v1_invoice"),
]
