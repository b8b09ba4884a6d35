"""Every address of the product, by app."""

from django.contrib import admin
from django.urls import include, path

from metering.api_urls import openmeter_urlpatterns

urlpatterns = [
    path("admin/", admin.site.urls),
    path("accounts/", include("allauth.account.urls")),
    path("v1/", include("accounts.api_urls")),
    path("v1/", include("metering.api_urls")),
    path("v1/", include("billing.api_urls")),
    path("api/v1/", include(openmeter_urlpatterns)),
    path("", include("billing.public_urls")),
    path("", include("accounts.urls")),
    path("", include("metering.urls")),
    path("", include("billing.urls")),
]

handler400 = "accounts.views.errors.bad_request"
handler403 = "accounts.views.errors.permission_denied"
handler404 = "accounts.views.errors.not_found"
handler500 = "accounts.views.errors.server_error"
