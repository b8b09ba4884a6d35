"""Every address of the product, by app."""

from django.conf import settings
from django.contrib import admin
from django.urls import URLPattern, URLResolver, include, path
from django.views.generic import TemplateView

from accounts.access import public
from accounts.views import home
from metering.api_urls import openmeter_urlpatterns

urlpatterns: list[URLPattern | URLResolver] = [
    path("favicon.ico", home.favicon, name="favicon"),
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
if settings.DEBUG:
    urlpatterns.append(path("styleguide/", public(TemplateView.as_view(template_name="styleguide.html"))))

handler400 = "accounts.views.errors.bad_request"
handler403 = "accounts.views.errors.permission_denied"
handler404 = "accounts.views.errors.not_found"
handler500 = "accounts.views.errors.server_error"
