from django.urls import URLPattern, path

from metering.views import alerts, limits, seals, usage

app_name = "metering"
urlpatterns: list[URLPattern] = [
    path("o/<slug:slug>/usage/", usage.usage, name="usage"),
    path("o/<slug:slug>/usage.csv", usage.usage_csv, name="usage_csv"),
    path("o/<slug:slug>/alerts/", alerts.alerts, name="alerts"),
    path("o/<slug:slug>/alerts/settings/", alerts.alert_settings, name="alert_settings"),
    path("o/<slug:slug>/limits/", limits.limits, name="limits"),
    path("o/<slug:slug>/limits/new/", limits.limit_create, name="limit_create"),
    path("o/<slug:slug>/limits/settings/", limits.admission_settings, name="admission_settings"),
    path("o/<slug:slug>/limits/denials/", limits.denials, name="denials"),
    path("o/<slug:slug>/limits/rehearsal/", limits.simulation, name="limit_simulation"),
    path("o/<slug:slug>/limits/<str:public_id>/", limits.limit_change, name="limit_change"),
    path("o/<slug:slug>/limits/<str:public_id>/removal/", limits.limit_removal, name="limit_removal"),
    path("o/<slug:slug>/seals/", seals.seals, name="seals"),
    path("o/<slug:slug>/seals/export.zip", seals.export, name="seals_export"),
    path("o/<slug:slug>/seals/proof.zip", seals.proof, name="seals_proof"),
]
