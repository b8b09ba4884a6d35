"""Revoking API keys: one by its address, many by id, by project or by how long nobody has used them."""

from typing import Any

from django.utils import timezone
from drf_spectacular.utils import OpenApiExample, OpenApiResponse, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from accounts import api_keys
from accounts.api.keys import ONE_KEY, ApiKeyView
from accounts.api.parts import ORGANISATION, REFUSALS, REFUSED
from accounts.api_auth import caller_of, resolve_organisation
from accounts.api_bodies import validated
from accounts.key_revocation import LONGEST_REASON, MOST_AT_ONCE, keys_by_id, keys_of, revoke_api_keys
from accounts.models import Organisation, Project, Scope
from accounts.problems import CONTENT_TYPE

REVOKED = {
    "revoked": ["key_7k2mcd4f9ghjk3npqrst"],
    "revoked_before": [],
    "unknown": [],
    "is_more": False,
}


class RevocationInput(serializers.Serializer):
    """Either `ids`, or `project`, `unused_since` or both of these."""

    ids = serializers.ListField(
        child=serializers.CharField(max_length=32), required=False, allow_empty=False, max_length=MOST_AT_ONCE
    )
    project = serializers.CharField(required=False, help_text="Public id: all keys of that project.")
    unused_since = serializers.DateTimeField(
        required=False, help_text="Keys last used before; keys never used count from when they were made."
    )
    reason = serializers.CharField(required=False, max_length=LONGEST_REASON, help_text="For the audit log.")

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        if "ids" in attrs and {"project", "unused_since"} & set(attrs):
            raise serializers.ValidationError("Name ids, or else a project, unused_since or both.", "ambiguous")
        return attrs


class RevocationOutput(serializers.Serializer):
    revoked = serializers.ListField(child=serializers.CharField(), help_text="Ids of the keys that ended now.")
    revoked_before = serializers.ListField(
        child=serializers.CharField(), help_text="Of `ids`, those that had been revoked before."
    )
    unknown = serializers.ListField(child=serializers.CharField(), help_text="Of `ids`, those that do not exist.")
    is_more = serializers.BooleanField(
        help_text=f"At most {MOST_AT_ONCE} keys end at once: send the same again while this is true."
    )


class ApiKeyRevocations(ApiKeyView):
    required_scopes = Scope.KEYS_WRITE

    @extend_schema(
        operation_id="revoke_api_keys",
        summary="Revoke many API keys",
        description="For good and at once, all or none. Sent again, it does nothing more to keys already revoked.",
        tags=["API keys"],
        parameters=[ORGANISATION],
        request=RevocationInput,
        responses={
            200: OpenApiResponse(RevocationOutput, "What ended", [OpenApiExample("Revoked", REVOKED)]),
            **REFUSALS,
            (422, CONTENT_TYPE): REFUSED,
        },
        examples=[
            OpenApiExample(
                "Two keys", {"ids": ["key_7k2mcd4f9ghjk3npqrst", "key_9h3k5m7p2r4t6v8x"]}, request_only=True
            ),
            OpenApiExample(
                "What nobody uses", {"unused_since": "2026-08-01T00:00:00Z", "reason": "Unused"}, request_only=True
            ),
        ],
    )
    def post(self, request: Request) -> Response:
        organisation = resolve_organisation(request)
        wanted = validated(RevocationInput, request)
        ids = wanted.get("ids")
        keys = keys_by_id(organisation, ids) if ids else _selected(organisation, wanted)
        known = dict(keys.values_list("public_id", "revoked_at")) if ids else {}
        done = revoke_api_keys(
            keys,
            actor=caller_of(request).label,
            now=timezone.now(),
            reason=wanted.get("reason", ""),
            request=request,
        )
        revoked = [api_key.public_id for api_key in done.revoked]
        answer = {
            "revoked": revoked,
            "revoked_before": [public_id for public_id in known if public_id not in revoked],
            "unknown": [public_id for public_id in dict.fromkeys(ids or ()) if public_id not in known],
            "is_more": done.is_more,
        }
        return Response(RevocationOutput(answer).data)


def _selected(organisation: Organisation, wanted: dict[str, Any]) -> Any:
    project = None
    if "project" in wanted:
        project = Project.objects.for_organisation(organisation).filter(public_id=wanted["project"]).first()
        if project is None:
            raise api_keys.UnknownProject
    return keys_of(organisation, project=project, unused_since=wanted.get("unused_since"))


class ApiKeyRevocation(ApiKeyView):
    required_scopes = Scope.KEYS_WRITE

    @extend_schema(
        operation_id="revoke_api_key",
        summary="Revoke an API key",
        description="For good and at once. Revoking twice does nothing more.",
        tags=["API keys"],
        parameters=[ORGANISATION],
        request=None,
        responses={200: ONE_KEY, **REFUSALS},
    )
    def post(self, request: Request, public_id: str) -> Response:
        organisation = resolve_organisation(request)
        api_keys.revoke_api_key(self.find(organisation, public_id), actor=caller_of(request).label, request=request)
        return self.answer(self.find(organisation, public_id))
