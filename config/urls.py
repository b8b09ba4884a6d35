"""Every address of the product, by app."""

from django.contrib import admin
from django.urls import include, path

urlpatterns = [
    path("admin/", admin.site.urls),
    path("accounts/", include("allauth.account.urls")),
    path("v1/", include("accounts.api_urls")),
    path("v1/", include("metering.api_urls")),
    path("v1/", include("billing.api_urls")),
    path("", include("billing.public_urls")),
    path("", include("accounts.urls")),
    path("", include("metering.urls")),
    path("", include("billing.urls")),
]
