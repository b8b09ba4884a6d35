"""/v1/authorize: may this call pass? In the form that nginx's auth_request and Envoy's ext_authz ask.

The gateway forwards headers of the caller's request, and a caller can send whatever headers they like. So what only a
gateway may say is believed where it cannot come from outside: see metering/gateways/README.md. An answer is a status
and headers; the body of a refusal is what OpenAI's clients read, since Envoy hands it on as it is.
"""

import json
from datetime import datetime
from typing import Any
from urllib.parse import quote
from uuid import uuid4

import msgspec
from django.conf import settings
from django.http import HttpResponse
from django.utils import timezone
from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.views import APIView

from accounts.api_auth import TokenAuthentication
from accounts.credentials import digest_of
from accounts.models import Scope
from accounts.problems import Problem
from metering import admission
from metering.admission import Admission, AdmissionRequest, Refusal
from metering.api import gateway_auth_schema
from metering.api.admission_headers import headers_of
from metering.api.admissions import answer_body
from metering.api.bodies import read_whole
from metering.api.call_bodies import ToldByBody, told_by

TOKEN = "X-Kilotoken-Token"  # noqa: S105  the header's name
LONGEST_NAME = 200
_PRINTABLE = "".join(map(chr, range(33, 127))).replace("%", "")
# nginx's auth_request understands these and makes an internal error of all others.
NGINX_UNDERSTANDS = {401, 403}


class GatewayAuthentication(TokenAuthentication):
    """The gateway's own token, in a header beside the caller's key or in Authorization."""

    def secret_of(self, request: Request) -> str:
        return request.headers.get(TOKEN) or super().secret_of(request)


class AuthorizeView(APIView):
    authentication_classes = [GatewayAuthentication]
    required_scopes = Scope.ADMISSION_WRITE

    @extend_schema(**gateway_auth_schema.AUTHORIZE)
    def get(self, request: Request, original_path: str = "") -> HttpResponse:
        now = timezone.now()
        asked = _asked(request, believes_query=not original_path)
        if request.headers.get("X-Kilotoken-Hold") == "none":
            return _response(request, admission.identify(asked, now=now), asked.model, now)
        return _response(request, admission.admit(asked, now=now), asked.model, now)

    # Envoy asks by the method of the caller's request.
    @extend_schema(exclude=True)
    def post(self, request: Request, original_path: str = "") -> HttpResponse:
        return self.get(request, original_path)

    @extend_schema(exclude=True)
    def put(self, request: Request, original_path: str = "") -> HttpResponse:
        return self.get(request, original_path)

    @extend_schema(exclude=True)
    def patch(self, request: Request, original_path: str = "") -> HttpResponse:
        return self.get(request, original_path)

    @extend_schema(exclude=True)
    def delete(self, request: Request, original_path: str = "") -> HttpResponse:
        return self.get(request, original_path)


# --- Reading what is asked --------------------------------------------------------------------------------------------


def _asked(request: Request, *, believes_query: bool) -> AdmissionRequest:
    """Behind /v1/authorize/<the caller's path> the query is the caller's own, and says nothing here. A body is the
    caller's too, but it is what the model server will run: it says what no header says."""
    query = request.query_params if believes_query else {}

    def said(name: str) -> str:
        text = request.headers.get(f"X-Kilotoken-{name}") or query.get(name.lower().replace("-", "_"), "")
        if len(text) > LONGEST_NAME or "\x00" in text:
            raise Problem(400, "invalid_request", f"{name} may have {LONGEST_NAME} characters, and not NUL.")
        return text

    raw = read_whole(request._request, settings.JSON_BODY_MAX_BYTES)
    told = told_by(raw, content_type=request.headers.get("Content-Type", "")) if raw else ToldByBody()
    prompt_tokens, max_tokens = _tokens(said("Prompt-Tokens")), _tokens(said("Max-Tokens"))
    return AdmissionRequest(
        call_id=said("Call-Id") or f"authorize:{uuid4()}",
        key_digest=_key_digest(request),
        model=said("Model") or told.model,
        end_user=said("End-User") or told.end_user,
        client_ip=said("Client-Ip") or None,
        prompt_tokens=told.prompt_tokens if prompt_tokens is None else prompt_tokens,
        max_tokens=told.max_tokens if max_tokens is None else max_tokens,
    )


def _key_digest(request: Request) -> str:
    """Of the key that the caller presented, wherever clients of OpenAI, Anthropic and Azure put it; else empty.

    A digest is no secret: it is taken only from a gateway whose own token stands where the caller's key would.
    """
    own_place = TOKEN not in request.headers
    if own_place and (digest := request.headers.get("X-Kilotoken-Key-Sha256")):
        return digest.lower()
    authorization = request.headers.get("X-Original-Authorization", "")
    if not authorization and not own_place:
        authorization = request.headers.get("Authorization", "")
    scheme, _, key = authorization.partition(" ")
    bearer = key.strip() if scheme.lower() == "bearer" else ""
    found = bearer or request.headers.get("X-Api-Key") or request.headers.get("Api-Key")
    return digest_of(found) if found else ""


def _tokens(text: str) -> int | None:
    if text and not (text.isascii() and text.isdigit() and len(text) <= 12):
        raise Problem(400, "invalid_request", "Numbers of tokens are whole numbers from 0 up.")
    return int(text) if text else None


# --- Writing what is answered -----------------------------------------------------------------------------------------


def _response(request: Request, answer: Admission, model: str, now: datetime) -> HttpResponse:
    body, status = answer_body(answer, now), 200
    headers = headers_of(answer, now) | {
        "x-kilotoken-admission": answer.id or "",
        "x-kilotoken-organisation": answer.organisation,
        "x-kilotoken-project": answer.project,
        "x-kilotoken-key": answer.api_key,
    }
    if answer.refusal is not None:
        status = answer.refusal.status
        error = {"error": _error(answer.refusal)}
        body |= error
        headers |= {
            "x-kilotoken-reason": answer.refusal.code,
            "x-kilotoken-status": str(status),
            # JSON in ASCII: nginx makes the caller's body of it.
            "x-kilotoken-error": json.dumps(error, separators=(",", ":")),
        }
        if request.headers.get("X-Kilotoken-Gateway") == "nginx" and status not in NGINX_UNDERSTANDS:
            status = 403
    response = HttpResponse(msgspec.json.encode(body), content_type="application/json", status=status)
    for name, value in headers.items():
        if value:
            response.headers[name] = value
    if answer.is_allowed:
        # Also where it is not known, so that nothing a caller sent under this name reaches the model server.
        response.headers["x-kilotoken-model"] = quote(model, safe=_PRINTABLE)
    return response


def _error(refusal: Refusal) -> dict[str, Any]:
    """As OpenAI's clients read it."""
    return {"message": refusal.message, "type": refusal.code, "param": None, "code": refusal.code}
