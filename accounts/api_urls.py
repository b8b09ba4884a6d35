from django.urls import URLPattern, path

from accounts.api import document, keys, leaked_keys, revocations

urlpatterns: list[URLPattern] = [
    path("api-keys", keys.ApiKeys.as_view(), name="api-keys"),
    path("api-keys/revocation", revocations.ApiKeyRevocations.as_view(), name="api-keys-revocation"),
    path("api-keys/<str:public_id>", keys.OneApiKey.as_view(), name="api-key"),
    path("api-keys/<str:public_id>/rotation", keys.ApiKeyRotation.as_view(), name="api-key-rotation"),
    path("api-keys/<str:public_id>/revocation", revocations.ApiKeyRevocation.as_view(), name="api-key-revocation"),
    path("leaked-keys", leaked_keys.LeakedKeys.as_view(), name="leaked-keys"),
    path("openapi.json", document.OpenApiDocument.as_view(), name="openapi"),
]
