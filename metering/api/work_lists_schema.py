"""How the OpenAPI document describes the work lists."""

from typing import Any

from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiExample, OpenApiParameter, OpenApiResponse

from accounts.problems import CONTENT_TYPE
from metering.api.work_list_parts import (
    LONGEST_RANGE_DAYS,
    BulkDismissalInput,
    BulkReplayInput,
    DismissalInput,
    FilterInput,
    RejectedEventOutput,
    ReplayInput,
    WholeRejectedEventOutput,
)

_ID = "rej_1f5d0c2b3a4958677685940392a1b0c1d2e3f405162738495a6b7c8d9eafb0c1"
_ROW = {
    "id": _ID,
    "organisation": "org_7k2mcd4f9ghjk3npqrst",
    "reason": "invalid_value",
    "detail": "data.input_tokens is 'many': it must be a finite number.",
    "source": "gateway",
    "event_id": "req_8f2a",
    "format": "cloudevents",
    "seen_count": 3,
    "first_seen_at": "2026-11-15T12:07:03Z",
    "last_seen_at": "2026-11-15T12:09:03Z",
    "state": "open",
    "settled_at": None,
    "settlement": "",
}
_WHOLE = {**_ROW, "body": '{"specversion":"1.0","id":"req_8f2a","source":"gateway","data":{"input_tokens":"many"}}'}
_COUNT = {"type": "integer", "minimum": 0}
_TEXT_OR_NULL = {"type": "string", "nullable": True}


def _object(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "required": list(properties), "properties": properties}


def _refusal(status: int, title: str, code: str, detail: str) -> OpenApiResponse:
    problem = {"type": "about:blank", "title": title, "status": status, "detail": detail, "code": code}
    return OpenApiResponse(OpenApiTypes.OBJECT, detail, [OpenApiExample(code, problem, media_type=CONTENT_TYPE)])


_UNKNOWN: dict[Any, Any] = {(404, CONTENT_TYPE): _refusal(404, "Not Found", "not_found", "There is none.")}
_INVALID: dict[Any, Any] = {(400, CONTENT_TYPE): _refusal(400, "Bad Request", "invalid_request", "Fields are wrong.")}
_SETTLED: dict[Any, Any] = {
    (409, CONTENT_TYPE): _refusal(409, "Conflict", "already_settled", "It was dismissed already.")
}
_ORGANISATION = OpenApiParameter(
    "organisation",
    str,
    description="Public id or slug. With a service token: only this organisation's; without it everybody's, and what "
    "could not be attributed.",
)
_DAYS = OpenApiParameter("days", int, description=f"The last days, today included: 1 to {LONGEST_RANGE_DAYS}.")
_ONE = OpenApiParameter("rejected_id", str, OpenApiParameter.PATH, description="`id` of the rejected event.")
_DATES = {"type": "array", "items": {"type": "string", "format": "date"}, "description": "Days in UTC, oldest first."}
_PER_DAY = {"type": "array", "items": _COUNT, "description": "One for each of `days`."}
_COUNTS_REPLY = _object(
    days=_DATES,
    reasons={
        "type": "array",
        "items": _object(reason={"type": "string"}, label={"type": "string"}, counts=_PER_DAY, still_open=_COUNT),
    },
)
_UNMATCHED_REPLY = _object(
    days=_DATES,
    items={
        "type": "array",
        "items": _object(
            organisation={"type": "string"},
            type={"type": "string"},
            is_read={"type": "boolean", "description": "Meters read this type, and found nothing in these events."},
            count=_COUNT,
            counts=_PER_DAY,
            last_time={"type": "string", "format": "date-time"},
            example=_object(source={"type": "string"}, id={"type": "string"}),
        ),
    },
)
_REPLAY_REPLY = _object(
    event={"type": "object", "description": "The rejected event as it is now.", "additionalProperties": True},
    verdict={
        **_object(
            verdict={"type": "string"},
            meters={"type": "array", "items": {"type": "string"}},
            reason=_TEXT_OR_NULL,
            detail=_TEXT_OR_NULL,
        ),
        "nullable": True,
        "description": "Of this replay; null: it was replayed before, and `event` says what came of it.",
    },
    open={**_TEXT_OR_NULL, "description": "Id of what is still refused; null: it was taken."},
)
_MANY: dict[str, Any] = {"dry_run": {"type": "boolean"}, "matching": _COUNT}
_MANY_REPLY: dict[str, Any] = {
    "type": "object",
    "required": list(_MANY),
    "properties": {
        **_MANY,
        "accepted": _COUNT,
        "duplicates": _COUNT,
        "refused": {**_COUNT, "description": "Refused again: still open."},
        "dismissed": _COUNT,
        "next": {**_TEXT_OR_NULL, "description": "Send it as `after` to go on; null: that was all."},
        "looked_at": {**_COUNT, "description": "Of a dry run: rows that repairs were tried on."},
        "would_change": _COUNT,
        "examples": {
            "type": "array",
            "items": _object(id={"type": "string"}, before={"type": "string"}, after={"type": "string"}),
        },
    },
}
_TAGS = ["Work lists"]

LIST: dict[str, Any] = {
    "operation_id": "list_rejected_events",
    "tags": _TAGS,
    "summary": "List rejected events",
    "description": "What was refused or conflicted, newest first. The same refusal again only counts up.",
    "parameters": [_ORGANISATION, FilterInput],
    "responses": {200: OpenApiResponse(RejectedEventOutput(many=True), "A page of them"), **_INVALID},
    "examples": [
        OpenApiExample("Refused", {"items": [_ROW], "next_cursor": None}, response_only=True, status_codes=["200"])
    ],
}
GET: dict[str, Any] = {
    "operation_id": "get_rejected_event",
    "tags": _TAGS,
    "summary": "Get a rejected event with its body",
    "parameters": [
        _ORGANISATION,
        OpenApiParameter("public_id", str, OpenApiParameter.PATH, description="`id` of the rejected event."),
    ],
    "responses": {200: OpenApiResponse(WholeRejectedEventOutput, "It", [OpenApiExample("It", _WHOLE)]), **_UNKNOWN},
}
COUNTS: dict[str, Any] = {
    "operation_id": "count_rejected_events",
    "tags": _TAGS,
    "summary": "Count rejected events by reason and day",
    "description": "How often events were refused, by the day they first came in, and how many are open.",
    "parameters": [_ORGANISATION, _DAYS],
    "responses": {200: OpenApiResponse(_COUNTS_REPLY, "The counts"), **_INVALID},
}
UNMATCHED: dict[str, Any] = {
    "operation_id": "list_unmatched_events",
    "tags": _TAGS,
    "summary": "List types of events that feed no meter",
    "description": "Accepted events that feed no meter, by type and day of receipt. They are kept: a meter defined for "
    "them can count them from their events.",
    "parameters": [_ORGANISATION, _DAYS],
    "responses": {200: OpenApiResponse(_UNMATCHED_REPLY, "The types, the most frequent first"), **_INVALID},
}
REPLAY: dict[str, Any] = {
    "operation_id": "replay_rejected_event",
    "tags": _TAGS,
    "summary": "Replay a rejected event, repaired if need be",
    "description": "Sends it through intake once more: as it is, with `repairs` made to its members, or as the whole "
    "`event` given. What is refused again stays open. One that was replayed before is not sent again.",
    "parameters": [_ONE],
    "request": ReplayInput,
    "responses": {200: OpenApiResponse(_REPLAY_REPLY, "What came of it"), **_INVALID, **_UNKNOWN, **_SETTLED},
}
DISMISS: dict[str, Any] = {
    "operation_id": "dismiss_rejected_event",
    "tags": _TAGS,
    "summary": "Dismiss a rejected event",
    "description": "Puts it aside with a reason. It stays readable. Dismissing again changes nothing.",
    "parameters": [_ONE],
    "request": DismissalInput,
    "responses": {200: OpenApiResponse(WholeRejectedEventOutput, "It"), **_INVALID, **_UNKNOWN, **_SETTLED},
}
REPLAY_MANY: dict[str, Any] = {
    "operation_id": "replay_rejected_events",
    "tags": _TAGS,
    "summary": "Replay rejected events by filter",
    "description": "Sends the open ones that `filter` chooses through intake once more, each once, up to 1,000 per "
    "request; go on with `after`. With `dry_run` they are counted, and the first changes of `repairs` shown.",
    "request": BulkReplayInput,
    "responses": {200: OpenApiResponse(_MANY_REPLY, "What came of them"), **_INVALID},
    "examples": [
        OpenApiExample(
            "One model's name in the place of another",
            {
                "filter": {"reason": "invalid_value", "source": "gateway"},
                "dry_run": True,
                "repairs": [{"field": "data.model", "from": "gpt5", "to": "gpt-5"}],
            },
            request_only=True,
        )
    ],
}
DISMISS_MANY: dict[str, Any] = {
    "operation_id": "dismiss_rejected_events",
    "tags": _TAGS,
    "summary": "Dismiss rejected events by filter",
    "description": "Puts the open ones that `filter` chooses aside, up to 1,000 per request; go on with `after`. With "
    "`dry_run` they are counted only.",
    "request": BulkDismissalInput,
    "responses": {200: OpenApiResponse(_MANY_REPLY, "What came of them"), **_INVALID},
}
