"""What requests about meters may say, and how meters and previews are shown."""

from typing import Any

from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiExample, OpenApiResponse
from rest_framework import serializers

from accounts.problems import CONTENT_TYPE
from metering.exact import exact_text
from metering.members import OPERATORS
from metering.models import Aggregation, Meter, MeterRevision
from metering.previewing import MeterPreview

METER: dict[str, Any] = {
    "key": "audio_seconds",
    "name": "Audio",
    "description": "Speech that was transcribed.",
    "event_type": "ai.usage",
    "aggregation": "sum",
    "is_additive": True,
    "value_field": "audio.seconds",
    "unit": "seconds",
    "display_scale": "60",
    "position": 100,
    "part_of": None,
    "effective_from": "2026-11-22T18:15:00Z",
    "dimensions": ["model", "region"],
    "filters": [{"field": "operation", "operator": "in", "values": ["transcription", "translation"]}],
    "tiers": {},
    "revisions": [],
    "created_at": "2026-11-22T18:01:12Z",
    "archived_at": None,
}
NEW_METER = {
    name: METER[name]
    for name in ("key", "name", "event_type", "aggregation", "value_field", "unit", "dimensions", "filters")
}
TIERS = {
    "context_tier": {
        "fields": ["input_tokens", "cache_read_tokens", "cache_write_tokens"],
        "steps": [{"up_to": "200000", "label": "0"}, {"label": "200000"}],
    }
}
PREVIEW = {
    "of_its_type": 1000,
    "let_through": 40,
    "readable": 39,
    "value": "512.25",
    "series": 2,
    "groups": [{"labels": {"model": "whisper-3", "region": "eu"}, "events": 30}],
    "samples": [
        {
            "time": "2026-11-22T17:59:58Z",
            "organisation": "org_7k2mcd4f9ghjk3npqrst",
            "source": "gateway",
            "id": "req_8f2a",
            "value": "12.5",
            "labels": {"model": "whisper-3", "region": "eu"},
        }
    ],
    "unreadable": ["about a minute"],
}
DIMENSIONS_HELP = "Members of the data, or paths such as `usage.region`, by which totals are kept apart."
FILTERS_HELP = (
    "Conditions that must all hold for an event to be read: `field`, `operator` (" + ", ".join(OPERATORS) + ") and, "
    "where it compares, `values` as texts."
)
TIERS_HELP = (
    "Dimensions made of a size: name, the `fields` that are added up, and `steps` with a `label` each, up to and "
    "including `up_to`; the last step has none."
)


class Definition(serializers.Serializer):
    dimensions = serializers.ListField(child=serializers.CharField(), required=False, help_text=DIMENSIONS_HELP)
    filters = serializers.ListField(child=serializers.JSONField(), required=False, help_text=FILTERS_HELP)
    tiers = serializers.JSONField(required=False, help_text=TIERS_HELP)
    effective_from = serializers.DateTimeField(
        required=False, help_text="A quarter hour; by default the next that no event can have reached."
    )


class MeterChangeInput(Definition):
    """What is left out stays. Words change at once; dimensions, filters and tiers from `effective_from` on."""

    name = serializers.CharField(max_length=120, required=False)
    description = serializers.CharField(required=False, allow_blank=True)
    unit = serializers.CharField(max_length=32, required=False)
    display_scale = serializers.DecimalField(
        max_digits=18, decimal_places=6, required=False, help_text="How many units prices are quoted for by default."
    )
    position = serializers.IntegerField(min_value=0, max_value=32_767, required=False)


class MeterInput(MeterChangeInput):
    key = serializers.SlugField(max_length=63, help_text="Stands in prices and plans, and is never used again.")
    name = serializers.CharField(max_length=120)
    event_type = serializers.CharField(max_length=255)
    aggregation = serializers.ChoiceField(choices=Aggregation.choices)
    value_field = serializers.CharField(
        max_length=255, required=False, allow_blank=True, default="", help_text="Empty for a count."
    )
    unit = serializers.CharField(max_length=32)
    part_of = serializers.CharField(
        required=False,
        allow_null=True,
        help_text="Key of the meter that this one is a part of: shown, not priced twice.",
    )


class ConditionOutput(serializers.Serializer):
    field = serializers.CharField()
    operator = serializers.ChoiceField(choices=OPERATORS)
    values = serializers.ListField(child=serializers.CharField(), required=False)


class DefinitionOutput(serializers.Serializer):
    """What a meter keeps apart and lets through, from an instant on."""

    effective_from = serializers.DateTimeField()
    dimensions = serializers.ListField(child=serializers.CharField(), help_text=DIMENSIONS_HELP)
    filters = ConditionOutput(many=True, help_text=FILTERS_HELP)
    tiers = serializers.JSONField(help_text=TIERS_HELP)


class MeterOutput(DefinitionOutput):
    """A meter: its first definition, and those that follow it."""

    key = serializers.CharField()
    name = serializers.CharField()
    description = serializers.CharField()
    event_type = serializers.CharField()
    aggregation = serializers.ChoiceField(choices=Aggregation.choices)
    is_additive = serializers.BooleanField(help_text="Whether totals may be added over time and series.")
    value_field = serializers.CharField()
    unit = serializers.CharField()
    display_scale = serializers.CharField()
    position = serializers.IntegerField()
    part_of = serializers.CharField(allow_null=True)
    revisions = DefinitionOutput(many=True)
    created_at = serializers.DateTimeField()
    archived_at = serializers.DateTimeField(allow_null=True)


class GroupOutput(serializers.Serializer):
    labels = serializers.DictField(child=serializers.CharField())
    events = serializers.IntegerField()


class SampleOutput(serializers.Serializer):
    time = serializers.DateTimeField()
    organisation = serializers.CharField()
    source = serializers.CharField()  # type: ignore[assignment]
    id = serializers.CharField(source="event_id")
    value = serializers.CharField()
    labels = serializers.DictField(child=serializers.CharField())


class PreviewOutput(serializers.Serializer):
    """What a meter would have read of the latest events of its type."""

    of_its_type = serializers.IntegerField(help_text="Events looked at, 1000 at most.")
    let_through = serializers.IntegerField(help_text="Those for which all conditions hold.")
    readable = serializers.IntegerField(help_text="Those that carry a value it can read.")
    value = serializers.CharField(allow_null=True, help_text="What they come to. Null: nothing was read.")
    series = serializers.IntegerField(help_text="How many sets of dimensions they have.")
    groups = GroupOutput(many=True, help_text="The most frequent sets of dimensions.")
    samples = SampleOutput(many=True)
    unreadable = serializers.ListField(child=serializers.CharField(), help_text="Values that it cannot read.")


class BackfillInput(serializers.Serializer):
    start = serializers.DateTimeField(help_text="A quarter hour from which on the meter is to count.")


class BackfillOutput(serializers.Serializer):
    """How far a backfill is."""

    start = serializers.DateTimeField()
    end = serializers.DateTimeField(help_text="Where the meter began before.")
    organisations = serializers.IntegerField(help_text="Those with events between the two.")
    organisations_done = serializers.IntegerField()
    totals = serializers.IntegerField(help_text="Totals of quarter hours written so far.")
    created_at = serializers.DateTimeField()
    finished_at = serializers.DateTimeField(allow_null=True, help_text="Null: it runs.")


PROBLEM = {
    "type": "about:blank",
    "title": "Unprocessable Content",
    "status": 422,
    "detail": "A change takes effect on a quarter hour from 2026-11-15T13:15Z on: events of before may be counted.",
    "code": "revision_too_early",
}
REFUSED = OpenApiResponse(OpenApiTypes.OBJECT, "Refused", [OpenApiExample("Too early", PROBLEM)])
REFUSALS: dict[Any, OpenApiResponse] = {(status, CONTENT_TYPE): REFUSED for status in (400, 401, 403, 404)}
REFUSED_CHANGES = REFUSALS | {(status, CONTENT_TYPE): REFUSED for status in (409, 422)}
ONE_METER = OpenApiResponse(MeterOutput, "The meter", [OpenApiExample("A meter", METER)])
ONE_PREVIEW = OpenApiResponse(PreviewOutput, "What it would read", [OpenApiExample("A preview", PREVIEW)])


def meter_facts(meter: Meter) -> dict[str, Any]:
    """A meter as MeterOutput has it."""
    facts = {
        name: getattr(meter, name)
        for name in (
            "key", "name", "description", "event_type", "aggregation", "is_additive", "value_field", "unit", "position",
            "created_at", "archived_at",
        )
    }  # fmt: skip
    return facts | {
        "display_scale": exact_text(meter.display_scale.normalize()),
        "part_of": meter.part_of.key if meter.part_of else None,
        **_definition_facts(meter),
        "revisions": [_definition_facts(one) for one in meter.revisions.all()],
    }


def preview_facts(preview: MeterPreview) -> dict[str, Any]:
    value = None if preview.value is None else exact_text(preview.value)
    return {**PreviewOutput(preview).data, "value": value}


def _definition_facts(one: Meter | MeterRevision) -> dict[str, Any]:
    return {
        "effective_from": one.effective_from,
        "dimensions": one.dimensions,
        "filters": one.filters,
        "tiers": one.tiers,
    }


class MetersOutput(serializers.Serializer):
    items = MeterOutput(many=True)
    next_cursor = serializers.CharField(allow_null=True, help_text="Null: the list is whole.")


class BackfillsOutput(serializers.Serializer):
    items = BackfillOutput(many=True)
    next_cursor = serializers.CharField(allow_null=True, help_text="Null: the list is whole.")
