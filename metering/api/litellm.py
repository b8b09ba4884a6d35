"""POST /v1/litellm: the target of LiteLLM's generic API callback.

LiteLLM sends nothing again after a 4xx, so whatever arrives is answered with 200 and kept, if only as rejected.
"""

from django.conf import settings
from django.http import HttpResponse
from drf_spectacular.utils import extend_schema
from rest_framework.request import Request

from metering.api import litellm_schema
from metering.api.bodies import read_whole
from metering.api.taking import WayIn, service_token_of, take, verdicts_response
from metering.formats import litellm


class LiteLLMView(WayIn):
    @extend_schema(**litellm_schema.POST)
    def post(self, request: Request) -> HttpResponse:
        token = service_token_of(request)
        # All three of its formats are sent as application/json, so the body is looked at and the header is not.
        drafts = litellm.decode_body(read_whole(request._request, settings.LITELLM_BODY_MAX_BYTES))
        return verdicts_response(take(drafts, format="litellm", service_token_id=token.pk))
