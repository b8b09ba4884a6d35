"""What requests about work lists may say, and how a rejected event is shown."""

from decimal import Decimal
from typing import Any

import msgspec
from rest_framework import serializers

from accounts.api_bodies import StorableJsonParser
from metering.body_repairs import InvalidRepair, Repair, make_repair
from metering.drafts import EVENT_MAX_BYTES
from metering.models import RejectedEvent
from metering.models.events import RejectionReason
from metering.reports.work_lists import DAYS

MOST_REPAIRS = 20
LONGEST_RANGE_DAYS = 90


class RejectedEventOutput(serializers.Serializer):
    """A refusal, as the list shows it."""

    id = serializers.CharField(source="public_id")
    organisation = serializers.CharField(
        source="organisation.public_id", allow_null=True, default=None, help_text="Null: whose it is could not be told."
    )
    reason = serializers.ChoiceField(choices=RejectionReason.choices)
    detail = serializers.CharField(help_text="What to do about it.")
    # The base class has a property of this name, which serialisers leave to their fields.
    source = serializers.CharField(help_text="Empty: it could not be read.")  # type: ignore[assignment]
    event_id = serializers.CharField(help_text="Empty: it could not be read.")
    format = serializers.CharField(help_text="The way in.")
    seen_count = serializers.IntegerField(help_text="How often the same was refused.")
    first_seen_at = serializers.DateTimeField()
    last_seen_at = serializers.DateTimeField()
    state = serializers.ChoiceField(choices=RejectedEvent.State.choices)
    settled_at = serializers.DateTimeField(allow_null=True)
    settlement = serializers.CharField(help_text="What the last replay said, or why it was dismissed.")


class WholeRejectedEventOutput(RejectedEventOutput):
    body = serializers.CharField(help_text="As it is kept: without secrets, and cut at 64 KiB.")


class FilterInput(serializers.Serializer):
    """Which rejected events; what is left out is any."""

    organisation = serializers.CharField(required=False)
    reason = serializers.ChoiceField(choices=RejectionReason.choices, required=False)
    source = serializers.CharField(required=False)  # type: ignore[assignment]
    id = serializers.CharField(required=False, help_text="The event's id, as it was sent.")
    state = serializers.ChoiceField(choices=RejectedEvent.State.choices, required=False)
    since = serializers.DateTimeField(required=False, help_text="Seen last at this time or later.")
    until = serializers.DateTimeField(required=False, help_text="Seen last before this time.")


class CountsInput(serializers.Serializer):
    days = serializers.IntegerField(default=DAYS, min_value=1, max_value=LONGEST_RANGE_DAYS)


class ExactJsonParser(StorableJsonParser):
    """JSON with every digit of its numbers."""

    parse_float = Decimal


class ExactValue(serializers.Field):
    """Any JSON, as it was parsed."""

    def to_internal_value(self, data: Any) -> Any:
        return data

    def to_representation(self, value: Any) -> Any:
        return value


class RepairInput(serializers.Serializer):
    """One member's value in the place of another, or of whatever is there."""

    field = serializers.CharField(help_text="Path of the member: `data.model`, `subject`.")
    to = ExactValue(allow_null=True, help_text="The value it gets.")

    def get_fields(self) -> dict[str, Any]:
        # `from` is a word of Python.
        help_text = "Only where it has this value. Left out: whatever it is."
        was = ExactValue(required=False, allow_null=True, help_text=help_text)
        return {**super().get_fields(), "from": was}

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        try:
            return {"repair": repair_of(attrs)}
        except InvalidRepair as error:
            raise serializers.ValidationError({"field": error.sentence}) from error


def repair_of(attrs: dict[str, Any]) -> Repair:
    was = {"was": attrs["from"]} if "from" in attrs else {}
    return make_repair(attrs["field"], attrs["to"], **was)


class RepairsInput(serializers.Serializer):
    repairs = RepairInput(many=True, required=False)
    backfill = serializers.BooleanField(default=False, help_text="Take them if they are older than the late window.")

    def validate_repairs(self, value: list[dict[str, Any]]) -> list[Repair]:
        if len(value) > MOST_REPAIRS:
            raise serializers.ValidationError(f"At most {MOST_REPAIRS} repairs at once.")
        return [one["repair"] for one in value]

    def to_internal_value(self, data: Any) -> Any:
        return {"repairs": [], **super().to_internal_value(data)}


class ReplayInput(RepairsInput):
    event = ExactValue(required=False, allow_null=True, default=None, help_text="The whole event to send in its place.")

    def validate_event(self, value: Any) -> str | None:
        if value is None:
            return None
        body = msgspec.json.Encoder(decimal_format="number").encode(value).decode()
        if not isinstance(value, dict) or len(body) > EVENT_MAX_BYTES:
            raise serializers.ValidationError("Send one event, a JSON object of at most 64 KiB.")
        return body

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        if attrs.get("event") is not None and attrs["repairs"]:
            raise serializers.ValidationError("Send either the whole event or repairs.")
        return attrs


class DismissalInput(serializers.Serializer):
    reason = serializers.CharField(max_length=500, help_text="Why it needs no repair.")


class ManyInput(serializers.Serializer):
    filter = FilterInput(help_text="Which of the open ones; `{}` means all.")
    dry_run = serializers.BooleanField(default=False, help_text="Only count and show; nothing is changed.")
    after = serializers.CharField(default="", allow_blank=True, help_text="`next` of the answer before.")


class BulkReplayInput(ManyInput, RepairsInput):
    pass


class BulkDismissalInput(ManyInput, DismissalInput):
    pass
