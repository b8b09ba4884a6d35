"""The REST API of metering: below /v1/, and below /api/v1/ what OpenMeter's clients expect there."""

from django.urls import URLPattern, path

from metering.api import work_lists
from metering.api.admissions import Admissions, Extension, OneAdmission, Release, Settlement
from metering.api.events import EventsView
from metering.api.gateway_auth import AuthorizeView
from metering.api.litellm import LiteLLMView
from metering.api.meters import MeterArchivalView, MeterBackfillsView, MeterPreviewView, MetersView, OneMeterView
from metering.api.openmeter import MeterQueryView, OpenMeterEventsView
from metering.api.otlp import TracesView
from metering.api.quotas import OneQuota, QuotaIncreases, Quotas
from metering.api.seals import ProofView, SealsView
from metering.api.usage import UsageView

urlpatterns: list[URLPattern] = [
    path("admissions", Admissions.as_view(), name="admissions"),
    path("admissions/<path:admission_id>/settlement", Settlement.as_view(), name="admission-settlement"),
    path("admissions/<path:admission_id>/release", Release.as_view(), name="admission-release"),
    path("admissions/<path:admission_id>/extension", Extension.as_view(), name="admission-extension"),
    path("admissions/<path:admission_id>", OneAdmission.as_view(), name="admission"),
    path("authorize", AuthorizeView.as_view(), name="authorize"),
    # Envoy puts the path of the caller's request behind it.
    path("authorize/<path:original_path>", AuthorizeView.as_view(schema=None), name="authorize-path"),
    path("quotas", Quotas.as_view(), name="quotas"),
    path("quotas/<str:quota_id>/increases", QuotaIncreases.as_view(), name="quota-increases"),
    path("quotas/<str:quota_id>", OneQuota.as_view(), name="quota"),
    path("events", EventsView.as_view(), name="events"),
    path("litellm", LiteLLMView.as_view(), name="litellm"),
    path("otlp/v1/traces", TracesView.as_view(), name="otlp-traces"),
    path("usage", UsageView.as_view(), name="usage-figures"),
    path("meters", MetersView.as_view(), name="meters"),
    path("meters/preview", MeterPreviewView.as_view(), name="meter-preview"),
    path("meters/<slug:key>", OneMeterView.as_view(), name="meter"),
    path("meters/<slug:key>/backfills", MeterBackfillsView.as_view(), name="meter-backfills"),
    path("meters/<slug:key>/archival", MeterArchivalView.as_view(), name="meter-archival"),
    path("rejected-events", work_lists.RejectedEvents.as_view(), name="rejected-events"),
    path("rejected-events/counts", work_lists.Counts.as_view(), name="rejected-event-counts"),
    path("rejected-events/replay", work_lists.BulkReplays.as_view(), name="rejected-events-replay"),
    path("rejected-events/dismissal", work_lists.BulkDismissals.as_view(), name="rejected-events-dismissal"),
    path("rejected-events/<str:public_id>", work_lists.OneRejectedEvent.as_view(), name="rejected-event"),
    path("rejected-events/<str:rejected_id>/replay", work_lists.Replays.as_view(), name="rejected-event-replay"),
    path(
        "rejected-events/<str:rejected_id>/dismissal", work_lists.Dismissals.as_view(), name="rejected-event-dismissal"
    ),
    path("unmatched-events", work_lists.UnmatchedEvents.as_view(), name="unmatched-events"),
    path("seals", SealsView.as_view(), name="seals"),
    path("proofs", ProofView.as_view(), name="proofs"),
]

openmeter_urlpatterns: list[URLPattern] = [
    path("events", OpenMeterEventsView.as_view(), name="openmeter-events"),
    path("meters/<slug:key>/query", MeterQueryView.as_view(), name="openmeter-meter-query"),
]
