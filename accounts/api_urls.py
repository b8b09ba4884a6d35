from django.urls import URLPattern, path

from accounts import api

urlpatterns: list[URLPattern] = [
    path("api-keys", api.ApiKeys.as_view(), name="api-keys"),
    path("api-keys/<str:public_id>", api.OneApiKey.as_view(), name="api-key"),
    path("api-keys/<str:public_id>/rotation", api.ApiKeyRotation.as_view(), name="api-key-rotation"),
    path("api-keys/<str:public_id>/revocation", api.ApiKeyRevocation.as_view(), name="api-key-revocation"),
    path("openapi.json", api.OpenApiDocument.as_view(), name="openapi"),
]
