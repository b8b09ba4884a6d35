from django.urls import URLPattern, path

from billing.views import public

app_name = "public"
urlpatterns: list[URLPattern] = [
    path("", public.front, name="front"),
    path("pricing/", public.pricing, name="pricing"),
    path("pricing/calculator/", public.calculator, name="calculator"),
]
