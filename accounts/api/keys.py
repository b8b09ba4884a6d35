"""API keys of an organisation: listing, making, changing, rotating, revoking.

They are what a customer's software presents to the AI gateway; here they are managed, with a token. The secret is part
of exactly one answer: the one that made it.
"""

from datetime import datetime, timedelta
from typing import Any

from django.utils import timezone
from drf_spectacular.utils import OpenApiExample, OpenApiParameter, OpenApiResponse, extend_schema
from rest_framework import serializers
from rest_framework.generics import GenericAPIView
from rest_framework.request import Request
from rest_framework.response import Response

from accounts import api_keys
from accounts.api.parts import IDEMPOTENCY, ORGANISATION, REFUSALS, REFUSED
from accounts.api_auth import caller_of, resolve_organisation
from accounts.api_bodies import validated
from accounts.api_pages import CursorPagination, idempotency_key
from accounts.credentials import Credential
from accounts.idempotency import perform_once
from accounts.key_changes import KeyChange, change_api_key
from accounts.key_restrictions import MOST_METADATA, MOST_MODELS, MOST_NETWORKS
from accounts.models import ApiKey, Organisation, Project, Scope
from accounts.models.api_keys import ApiKeyRows
from accounts.problems import CONTENT_TYPE, Problem

NOT_KEPT = "The secret was shown in the answer to the first request and is not kept. Rotate the key for a new one."

MODELS_HELP = "Names or shell-style patterns such as `claude-*`; empty: every model."
NETWORKS_HELP = "CIDR, IPv4 or IPv6; empty: from anywhere."
METADATA_HELP = (
    f"Your own notes, at most {MOST_METADATA} texts of 500 characters by name. A change replaces all of them."
)

KEY = {
    "id": "key_7k2mcd4f9ghjk3npqrst",
    "name": "Production",
    "project": {"id": "proj_5b6c7d8f9g2h3j4k6mnp", "name": "Default"},
    "status": "active",
    "prefix": "sk-kt-9f2a",
    "last_four": "Qx7a",
    "created_at": "2026-11-22T09:12:00Z",
    "expires_at": None,
    "revoked_at": None,
    "last_used_at": "2026-11-22T17:50:00Z",
    "allowed_models": ["gpt-5-mini", "claude-*"],
    "allowed_networks": ["203.0.113.0/24", "2001:db8::/32"],
    "metadata": {"team": "search"},
}
NEW_KEY = {**KEY, "last_used_at": None, "secret": "sk-kt-9f2a…Qx7a", "notice": ""}


class ProjectOutput(serializers.Serializer):
    id = serializers.CharField(source="public_id")
    name = serializers.CharField()


class ApiKeyOutput(serializers.Serializer):
    """A key as everybody with keys:read may see it."""

    id = serializers.CharField(source="public_id", help_text="Use it as the subject of usage events.")
    name = serializers.CharField()
    project = ProjectOutput()
    status = serializers.SerializerMethodField(help_text="`active`, `revoked` or `expired`.")
    prefix = serializers.SerializerMethodField(help_text="How the newest secret begins.")
    last_four = serializers.SerializerMethodField(help_text="How the newest secret ends.")
    created_at = serializers.DateTimeField()
    expires_at = serializers.DateTimeField(allow_null=True)
    revoked_at = serializers.DateTimeField(allow_null=True)
    last_used_at = serializers.DateTimeField(allow_null=True, help_text="To about a minute.")
    allowed_models = serializers.ListField(child=serializers.CharField(), help_text=MODELS_HELP)
    allowed_networks = serializers.ListField(child=serializers.CharField(), help_text=NETWORKS_HELP)
    metadata = serializers.DictField(child=serializers.CharField(allow_blank=True), help_text=METADATA_HELP)

    def get_status(self, api_key: ApiKey) -> str:
        return api_key.status(self.context["now"])

    def get_prefix(self, api_key: ApiKey) -> str:
        return api_key.newest_secret.prefix

    def get_last_four(self, api_key: ApiKey) -> str:
        return api_key.newest_secret.last_four


class ApiKeyWithSecretOutput(ApiKeyOutput):
    """A key with its secret, in the one answer that carries it."""

    secret = serializers.SerializerMethodField(help_text="Null when the request was sent again.")
    notice = serializers.SerializerMethodField(help_text="Why there is no secret; empty when there is one.")

    def get_secret(self, api_key: ApiKey) -> str | None:
        return self.context["secret"]

    def get_notice(self, api_key: ApiKey) -> str:
        return NOT_KEPT if self.context["secret"] is None else ""


class ApiKeyChangeInput(serializers.Serializer):
    name = serializers.CharField(max_length=120, required=False)
    expires_at = serializers.DateTimeField(required=False, allow_null=True, help_text="Null: the key does not expire.")
    allowed_models = serializers.ListField(
        child=serializers.CharField(), required=False, max_length=MOST_MODELS, help_text=MODELS_HELP
    )
    allowed_networks = serializers.ListField(
        child=serializers.CharField(), required=False, max_length=MOST_NETWORKS, help_text=NETWORKS_HELP
    )
    metadata = serializers.DictField(
        child=serializers.CharField(allow_blank=True, trim_whitespace=False), required=False, help_text=METADATA_HELP
    )


class ApiKeyInput(ApiKeyChangeInput):
    name = serializers.CharField(max_length=120)
    project = serializers.CharField(required=False, help_text="Public id. Without it the default project.")


class RotationInput(serializers.Serializer):
    overlap_seconds = serializers.IntegerField(
        default=0,
        min_value=0,
        max_value=int(api_keys.LONGEST_OVERLAP.total_seconds()),
        help_text="How long earlier secrets go on working; 0 ends them at once.",
    )


STATUSES = ("active", "revoked", "expired")
FILTERS = [
    OpenApiParameter("status", str, enum=STATUSES, description="Only keys in that state."),
    OpenApiParameter("project", str, description="Only keys of the project with that public id."),
    OpenApiParameter(
        "unused_since",
        str,
        description="Only keys last used before that instant; keys never used count from when they were made.",
    ),
]


class KeyFilters(serializers.Serializer):
    status = serializers.ChoiceField(choices=STATUSES, required=False)
    project = serializers.CharField(required=False)
    unused_since = serializers.DateTimeField(required=False)


ONE_KEY = OpenApiResponse(ApiKeyOutput, "The key", [OpenApiExample("A key", KEY)])
KEY_MADE = OpenApiResponse(ApiKeyWithSecretOutput, "The key and its secret", [OpenApiExample("A new key", NEW_KEY)])
KEY_REPLAYED = OpenApiResponse(
    ApiKeyWithSecretOutput,
    "The request had been carried out before: the same key, without its secret",
    [OpenApiExample("Sent again", {**NEW_KEY, "secret": None, "notice": NOT_KEPT})],
)


class ApiKeyView(GenericAPIView):
    """What the views of keys share."""

    queryset = ApiKey.objects.none()
    serializer_class = ApiKeyOutput

    def keys_of(self, organisation: Organisation) -> ApiKeyRows:
        return ApiKey.objects.for_organisation(organisation).select_related("project").prefetch_related("secrets")

    def find(self, organisation: Organisation, public_id: str) -> ApiKey:
        api_key = self.keys_of(organisation).filter(public_id=public_id).first()
        if api_key is None:
            raise Problem(404, "not_found", "There is no such key.")
        return api_key

    def answer(self, api_key: ApiKey, status: int = 200) -> Response:
        return Response(ApiKeyOutput(api_key, context={"now": timezone.now()}).data, status=status)

    def answer_with_secret(self, api_key: ApiKey, secret: str | None, status: int) -> Response:
        context = {"now": timezone.now(), "secret": secret}
        response = Response(ApiKeyWithSecretOutput(api_key, context=context).data, status=status)
        response["Cache-Control"] = "no-store"
        return response


class ApiKeys(ApiKeyView):
    required_scopes = {"GET": Scope.KEYS_READ, "POST": Scope.KEYS_WRITE}
    pagination_class = CursorPagination

    @extend_schema(
        operation_id="list_api_keys",
        summary="List API keys",
        tags=["API keys"],
        parameters=[ORGANISATION, *FILTERS],
        responses={200: OpenApiResponse(ApiKeyOutput(many=True), "A page of keys, newest first"), **REFUSALS},
        examples=[OpenApiExample("Keys", KEY, response_only=True, status_codes=["200"])],
    )
    def get(self, request: Request) -> Response:
        now = timezone.now()
        keys = self._filtered(request, self.keys_of(resolve_organisation(request)), now)
        rows = self.paginate_queryset(keys)
        return self.get_paginated_response(ApiKeyOutput(rows, many=True, context={"now": now}).data)

    def _filtered(self, request: Request, keys: ApiKeyRows, now: datetime) -> ApiKeyRows:
        filters = KeyFilters(data=request.query_params)
        filters.is_valid(raise_exception=True)
        wanted = filters.validated_data
        if "status" in wanted:
            keys = keys.with_status(wanted["status"], now)
        if "project" in wanted:
            keys = keys.filter(project__public_id=wanted["project"])
        return keys.unused_since(wanted["unused_since"]) if "unused_since" in wanted else keys

    @extend_schema(
        operation_id="create_api_key",
        summary="Create an API key",
        description="The answer holds the secret; it is the only one that does.",
        tags=["API keys"],
        parameters=[ORGANISATION, IDEMPOTENCY],
        request=ApiKeyInput,
        responses={201: KEY_MADE, 200: KEY_REPLAYED, **REFUSALS, (409, CONTENT_TYPE): REFUSED},
        examples=[OpenApiExample("A key that ends with the year", {"name": "Production"}, request_only=True)],
    )
    def post(self, request: Request) -> Response:
        organisation = resolve_organisation(request)
        wanted = validated(ApiKeyInput, request)
        done = perform_once(
            organisation,
            operation="api_key.created",
            key=idempotency_key(request),
            asked=wanted,
            perform=lambda: self._create(request, organisation, wanted),
            identify=lambda made: made[0].public_id,
        )
        api_key = self.find(organisation, done.result_id)
        secret = done.result[1].secret if done.result else None
        return self.answer_with_secret(api_key, secret, 201 if done.result else 200)

    def _create(
        self, request: Request, organisation: Organisation, wanted: dict[str, Any]
    ) -> tuple[ApiKey, Credential]:
        projects = Project.objects.for_organisation(organisation)
        named = wanted.get("project")
        project = projects.filter(public_id=named).first() if named else projects.get(is_default=True)
        if project is None:
            raise api_keys.UnknownProject
        return api_keys.create_api_key(
            organisation,
            project=project,
            name=wanted["name"],
            actor=caller_of(request).label,
            expires_at=wanted.get("expires_at"),
            allowed_models=wanted.get("allowed_models", ()),
            allowed_networks=wanted.get("allowed_networks", ()),
            metadata=wanted.get("metadata"),
            request=request,
        )


class OneApiKey(ApiKeyView):
    required_scopes = {"GET": Scope.KEYS_READ, "PATCH": Scope.KEYS_WRITE}

    @extend_schema(
        operation_id="get_api_key",
        summary="Get an API key",
        tags=["API keys"],
        parameters=[ORGANISATION],
        responses={200: ONE_KEY, **REFUSALS},
    )
    def get(self, request: Request, public_id: str) -> Response:
        return self.answer(self.find(resolve_organisation(request), public_id))

    @extend_schema(
        operation_id="change_api_key",
        summary="Change an API key",
        description="Only what is named changes, from the next call on. The project of a key never changes. Of a key "
        "that was revoked or has expired only name and metadata can be changed.",
        tags=["API keys"],
        parameters=[ORGANISATION],
        request=ApiKeyChangeInput,
        responses={200: ONE_KEY, **REFUSALS, (409, CONTENT_TYPE): REFUSED, (422, CONTENT_TYPE): REFUSED},
        examples=[
            OpenApiExample(
                "Two models, from one network",
                {"allowed_models": ["gpt-5-mini", "claude-*"], "allowed_networks": ["203.0.113.0/24"]},
                request_only=True,
            )
        ],
    )
    def patch(self, request: Request, public_id: str) -> Response:
        organisation = resolve_organisation(request)
        api_key = self.find(organisation, public_id)
        wanted = KeyChange(**validated(ApiKeyChangeInput, request))  # type: ignore[typeddict-item]
        change_api_key(api_key, wanted, actor=caller_of(request).label, now=timezone.now(), request=request)
        return self.answer(self.find(organisation, public_id))


class ApiKeyRotation(ApiKeyView):
    required_scopes = Scope.KEYS_WRITE

    @extend_schema(
        operation_id="rotate_api_key",
        summary="Rotate an API key",
        description="Adds a secret; earlier ones end after the overlap. Id, name and history of the key stay.",
        tags=["API keys"],
        parameters=[ORGANISATION, IDEMPOTENCY],
        request=RotationInput,
        responses={201: KEY_MADE, 200: KEY_REPLAYED, **REFUSALS, (409, CONTENT_TYPE): REFUSED},
        examples=[OpenApiExample("A day to change over", {"overlap_seconds": 86400}, request_only=True)],
    )
    def post(self, request: Request, public_id: str) -> Response:
        organisation = resolve_organisation(request)
        api_key = self.find(organisation, public_id)
        wanted = validated(RotationInput, request)
        done = perform_once(
            organisation,
            operation="api_key.rotated",
            key=idempotency_key(request),
            asked={"api_key": public_id, **wanted},
            perform=lambda: api_keys.rotate_api_key(
                api_key,
                overlap=timedelta(seconds=wanted["overlap_seconds"]),
                actor=caller_of(request).label,
                request=request,
            ),
            identify=lambda credential: public_id,
        )
        api_key = self.find(organisation, public_id)
        secret = done.result.secret if done.result else None
        return self.answer_with_secret(api_key, secret, 201 if done.result else 200)
