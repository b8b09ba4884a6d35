"""The OpenAPI document of all of the REST API."""

from drf_spectacular.views import SpectacularJSONAPIView
from rest_framework.permissions import AllowAny


class OpenApiDocument(SpectacularJSONAPIView):
    """The description of this API; anybody may read it."""

    authentication_classes = ()
    permission_classes = (AllowAny,)
