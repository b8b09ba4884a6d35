from django.urls import URLPattern, path

from metering import views

app_name = "metering"
urlpatterns: list[URLPattern] = [
    path("o/<slug:slug>/usage/", views.usage, name="usage"),
    path("o/<slug:slug>/usage.csv", views.usage_csv, name="usage_csv"),
]
