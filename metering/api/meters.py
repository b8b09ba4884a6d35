"""Meters for operators' tools: listed, previewed, defined, changed and archived with a service token.

A meter's key makes its definition safe to send again: the same is answered with 200, another with 409.
"""

from typing import Any

from django.utils import timezone
from drf_spectacular.utils import OpenApiExample, OpenApiParameter, OpenApiResponse, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from accounts.api_auth import caller_of
from accounts.api_bodies import validated
from accounts.enqueue import enqueue_on_commit
from accounts.models import Scope
from accounts.problems import Problem
from metering.api.meter_parts import (
    METER,
    NEW_METER,
    ONE_METER,
    ONE_PREVIEW,
    REFUSALS,
    REFUSED_CHANGES,
    TIERS,
    BackfillInput,
    BackfillOutput,
    BackfillsOutput,
    MeterChangeInput,
    MeterInput,
    MeterOutput,
    MetersOutput,
    meter_facts,
    preview_facts,
)
from metering.api.taking import service_token_of
from metering.backfilling import start_backfill
from metering.defining import (
    WORDS,
    InvalidMeter,
    archive_meter,
    checked,
    define_meter,
    earliest_revision,
    revise_meter,
    reword_meter,
    untouched_from,
)
from metering.models import Meter
from metering.previewing import preview_meter
from metering.tasks import run_meter_backfills

RULE = ("dimensions", "filters", "tiers")
EXAMPLE = OpenApiExample("Seconds of audio", NEW_METER, request_only=True)


class MetersView(APIView):
    required_scopes = {"GET": Scope.USAGE_READ, "POST": Scope.METERS_WRITE}

    @extend_schema(
        operation_id="list_meters",
        summary="List meters",
        tags=["Meters"],
        parameters=[OpenApiParameter("archived", bool, description="Also those that are archived.")],
        responses={200: OpenApiResponse(MetersOutput, "In the order of pages and bills"), **REFUSALS},
        examples=[
            OpenApiExample("Meters", {"items": [METER], "next_cursor": None}, response_only=True, status_codes=["200"])
        ],
    )
    def get(self, request: Request) -> Response:
        meters = _meters() if request.query_params.get("archived") == "true" else _meters().active()
        return Response({"items": [MeterOutput(meter_facts(meter)).data for meter in meters], "next_cursor": None})

    @extend_schema(
        operation_id="define_meter",
        summary="Define a meter",
        description="The meter reads events from `effective_from` on. Sent again, the same definition is answered with "
        "200 and changes nothing; another one under the same key is refused. Preview it first.",
        tags=["Meters"],
        request=MeterInput,
        responses={201: ONE_METER, 200: ONE_METER, **REFUSED_CHANGES},
        examples=[EXAMPLE, OpenApiExample("Kept apart by the length of the context", {**NEW_METER, "tiers": TIERS})],
    )
    def post(self, request: Request) -> Response:
        service_token_of(request)
        now = timezone.now()
        wanted = validated(MeterInput, request)
        wanted.setdefault("effective_from", untouched_from(now))
        meter, is_new = define_meter(_unsaved(wanted), now=now, actor=caller_of(request).label, request=request)
        return Response(MeterOutput(meter_facts(meter)).data, status=201 if is_new else 200)


class MeterPreviewView(APIView):
    required_scopes = {"POST": Scope.METERS_WRITE}

    @extend_schema(
        operation_id="preview_meter",
        summary="Preview a meter",
        description="What a definition would have read of the latest events. Nothing is saved.",
        tags=["Meters"],
        request=MeterInput,
        responses={200: ONE_PREVIEW, **REFUSED_CHANGES},
        examples=[EXAMPLE],
    )
    def post(self, request: Request) -> Response:
        service_token_of(request)
        return Response(preview_facts(preview_meter(checked(_unsaved(validated(MeterInput, request))))))


class OneMeterView(APIView):
    required_scopes = {"GET": Scope.USAGE_READ, "PATCH": Scope.METERS_WRITE}

    @extend_schema(
        operation_id="get_meter", summary="Get a meter", tags=["Meters"], responses={200: ONE_METER, **REFUSALS}
    )
    def get(self, request: Request, key: str) -> Response:
        return _answer(_find(key))

    @extend_schema(
        operation_id="change_meter",
        summary="Change a meter",
        description="Name, description, unit, scale and position change at once. Dimensions, filters and tiers change "
        "from `effective_from` on, so that no total ever changes. Nothing else can be changed: define another meter.",
        tags=["Meters"],
        request=MeterChangeInput,
        responses={200: ONE_METER, **REFUSED_CHANGES},
        examples=[OpenApiExample("Also by service tier", {"dimensions": ["model", "service_tier"]}, request_only=True)],
    )
    def patch(self, request: Request, key: str) -> Response:
        service_token_of(request)
        unknown = sorted(set(request.data) - set(MeterChangeInput().fields))
        if unknown:
            raise InvalidMeter(f"{unknown[0]} cannot be changed: totals are made of it. Define another meter.")
        meter, wanted, now = _find(key), validated(MeterChangeInput, request), timezone.now()
        actor = caller_of(request).label
        words = {name: wanted[name] for name in WORDS if name in wanted}
        if words:
            reword_meter(meter, words, actor=actor, request=request)
        latest = meter.latest_definition
        rule = {name: wanted.get(name, getattr(latest, name)) for name in RULE}
        if any(rule[name] != getattr(latest, name) for name in RULE):
            effective_from = wanted.get("effective_from") or earliest_revision(meter, now)
            revise_meter(meter, **rule, effective_from=effective_from, now=now, actor=actor, request=request)
        return _answer(_find(key))


class MeterArchivalView(APIView):
    required_scopes = {"POST": Scope.METERS_WRITE}

    @extend_schema(
        operation_id="archive_meter",
        summary="Archive a meter",
        description="It reads nothing that happens from now on; its totals stay. Archiving again changes nothing.",
        tags=["Meters"],
        request=None,
        responses={200: ONE_METER, **REFUSALS},
    )
    def post(self, request: Request, key: str) -> Response:
        service_token_of(request)
        archive_meter(_find(key), now=timezone.now(), actor=caller_of(request).label, request=request)
        return _answer(_find(key))


class MeterBackfillsView(APIView):
    required_scopes = {"GET": Scope.USAGE_READ, "POST": Scope.METERS_WRITE}

    @extend_schema(
        operation_id="list_meter_backfills",
        summary="List a meter's backfills",
        description="Newest first, with how far each is.",
        tags=["Meters"],
        responses={200: OpenApiResponse(BackfillsOutput, "How far each is"), **REFUSALS},
    )
    def get(self, request: Request, key: str) -> Response:
        rows = _find(key).backfills.all()
        return Response({"items": BackfillOutput(rows, many=True).data, "next_cursor": None})

    @extend_schema(
        operation_id="backfill_meter",
        summary="Backfill a meter",
        description="Lets the meter count events from an earlier quarter hour on, in the background. Never from before "
        "the billing periods that run. While one runs, another is refused.",
        tags=["Meters"],
        request=BackfillInput,
        responses={202: OpenApiResponse(BackfillOutput, "It runs"), **REFUSED_CHANGES},
    )
    def post(self, request: Request, key: str) -> Response:
        service_token_of(request)
        start = validated(BackfillInput, request)["start"]
        row = start_backfill(_find(key), start, now=timezone.now(), actor=caller_of(request).label, request=request)
        enqueue_on_commit(run_meter_backfills)
        return Response(BackfillOutput(row).data, status=202)


def _meters() -> Any:
    return Meter.objects.select_related("part_of").prefetch_related("revisions")


def _find(key: str) -> Meter:
    meter = _meters().filter(key=key).first()
    if meter is None:
        raise Problem(404, "not_found", "There is no such meter.")
    return meter


def _answer(meter: Meter) -> Response:
    return Response(MeterOutput(meter_facts(meter)).data)


def _unsaved(wanted: dict[str, Any]) -> Meter:
    """The meter that a request describes."""
    values = dict(wanted)
    named = values.pop("part_of", None)
    whole = Meter.objects.filter(key=named).first() if named else None
    if named and whole is None:
        raise InvalidMeter(f"There is no meter called {named!r} to be a part of.")
    return Meter(part_of=whole, **values)
