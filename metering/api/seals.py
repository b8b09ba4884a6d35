"""GET /v1/seals and /v1/proofs: the chain of seals, and the proof that an event is among the sealed ones."""

from django.db.models import QuerySet
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.generics import GenericAPIView
from rest_framework.request import Request
from rest_framework.response import Response

from accounts.api_auth import resolve_organisation
from accounts.api_pages import CursorPagination
from accounts.models import Scope
from accounts.problems import Problem
from metering.api import seals_schema
from metering.models import Seal
from metering.proofs import inclusion_proof, proof_facts, seal_facts


class SealOutput(serializers.Serializer):
    """The seal over one day of receipt."""

    id = serializers.CharField(source="public_id")
    day = serializers.DateField(help_text="Day of receipt in UTC.")
    event_count = serializers.IntegerField()
    # The base class has a property of this name, which serialisers leave to their fields.
    root = serializers.CharField(help_text="Merkle root (RFC 6962) of the day's events.")  # type: ignore[assignment]
    previous_digest = serializers.CharField(help_text="`digest` of the seal before; 64 zeros for the first.")
    digest = serializers.CharField(help_text="SHA-256 over organisation, day, count, root and previous digest.")
    sealed_at = serializers.DateTimeField()


class SealsView(GenericAPIView):
    required_scopes = {"GET": Scope.USAGE_READ}
    serializer_class = SealOutput
    pagination_class = CursorPagination
    queryset: QuerySet[Seal] = Seal.objects.none()

    @extend_schema(**seals_schema.LIST, responses=seals_schema.list_responses(SealOutput))
    def get(self, request: Request) -> Response:
        rows = self.paginate_queryset(Seal.objects.for_organisation(resolve_organisation(request)))
        return self.get_paginated_response([seal_facts(seal) for seal in rows or ()])


class ProofView(GenericAPIView):
    required_scopes = {"GET": Scope.USAGE_READ}
    pagination_class = None

    @extend_schema(**seals_schema.PROOF)
    def get(self, request: Request) -> Response:
        organisation = resolve_organisation(request)
        source, event_id = request.query_params.get("source"), request.query_params.get("id")
        if not source or not event_id:
            raise Problem(400, "event_required", "Name the event: add source=… and id=… as they were sent.")
        return Response(proof_facts(inclusion_proof(organisation, source=source, event_id=event_id), organisation))
