from django.urls import URLPattern, path

from metering.views import seals, usage

app_name = "metering"
urlpatterns: list[URLPattern] = [
    path("o/<slug:slug>/usage/", usage.usage, name="usage"),
    path("o/<slug:slug>/usage.csv", usage.usage_csv, name="usage_csv"),
    path("o/<slug:slug>/seals/", seals.seals, name="seals"),
    path("o/<slug:slug>/seals/export.zip", seals.export, name="seals_export"),
    path("o/<slug:slug>/seals/proof.zip", seals.proof, name="seals_proof"),
]
