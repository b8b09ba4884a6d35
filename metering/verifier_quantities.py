"""The part of the customer's verifier that adds up events: an invoice's quantities, whatever the meter's aggregation.

Standard library only, Python 3.9 or later, and no code of the server: `metering.exporting` puts it into the one script
that customers get. What a meter reads is in the manifest: its definition and those that followed it, each from an
instant on.
"""

from __future__ import annotations

import hashlib
import json
import re
from datetime import datetime, timedelta, timezone
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

# A text that counts as a metered value.
DECIMAL_TEXT = re.compile(r"-?[0-9]{1,60}(\.[0-9]{1,60})?([eE][+-]?[0-9]{1,3})?")
# Events that take another one back (void), or let other data count in its place (amendment).
CORRECTING_TYPES = ("kilotoken.void", "kilotoken.amendment")
# Dimensions that prices depend on: of a meter with too many series they are kept, where it has others.
PRICED_BY = {"model", "service_tier", "context_tier", "cache_ttl", "region"}
_Name = tuple[str, str]
# Averages have as many decimals as metered values may.
AVERAGE_STEP = Decimal(1).scaleb(-18)


# --- Canonical JSON ---------------------------------------------------------------------------------------------------


def canonical_json(value: Any) -> str:
    """No spaces, members sorted by code point, texts escaped only where they must be, numbers shortest."""
    if isinstance(value, dict):
        members = (f"{canonical_json(name)}:{canonical_json(value[name])}" for name in sorted(value))
        return "{" + ",".join(members) + "}"
    if isinstance(value, list):
        return "[" + ",".join(canonical_json(item) for item in value) + "]"
    if isinstance(value, Decimal):
        return canonical_number(value)
    return json.dumps(value, ensure_ascii=False)


def canonical_number(number: Decimal) -> str:
    """The shortest decimal: 1.50 -> 1.5, 1e3 -> 1000, -0.0 -> 0. Works on digits, so nothing is ever rounded."""
    sign, digits, power = number.as_tuple()
    exponent = int(power)
    text = "".join(map(str, digits)).lstrip("0")
    if not text:
        return "0"
    if exponent >= 0:
        whole, fraction = text + "0" * exponent, ""
    else:
        text = text.zfill(1 - exponent)
        whole, fraction = text[:exponent], text[exponent:].rstrip("0")
    return ("-" if sign else "") + whole + ("." + fraction if fraction else "")


def sha256(content: bytes) -> bytes:
    return hashlib.sha256(content).digest()


def leaf_place(event: dict[str, Any]) -> bytes:
    """What leaves of a day are sorted by: 16 bytes of SHA-256 over source and id, each after its length (4 bytes)."""
    source, event_id = event["source"].encode(), event["id"].encode()
    named = len(source).to_bytes(4, "big") + source + len(event_id).to_bytes(4, "big") + event_id
    return sha256(named)[:16]


# --- An invoice against events ----------------------------------------------------------------------------------------


class Figure:
    """What the events of one reading come to. Only sums and numbers can be taken back from."""

    def __init__(self, aggregation: str) -> None:
        self.aggregation = aggregation
        self.total, self.count = Decimal(0), 0
        self.values: set[Any] = set()
        self.best: Any = None

    @property
    def is_summed(self) -> bool:
        return self.aggregation in ("sum", "count", "average")

    def add(self, value: Any, place: tuple[datetime, bytes], sign: int) -> None:
        self.count += sign
        if self.is_summed:
            self.total += sign * value
        elif self.aggregation == "unique_count":
            self.values.add(value)
        elif self.aggregation == "latest":
            self.best = max(self.best or (place, value), (place, value))
        else:
            self.best = value if self.best is None else (max if self.aggregation == "max" else min)(self.best, value)

    def value(self) -> Decimal:
        if self.aggregation == "unique_count":
            return Decimal(len(self.values))
        if self.aggregation == "average" and self.count:
            return (self.total / self.count).quantize(AVERAGE_STEP, ROUND_HALF_UP)
        if self.is_summed:
            return self.total
        best = self.best[1] if self.aggregation == "latest" and self.best else self.best
        return Decimal(0) if best is None else best


class Span:
    """A reading on the invoice: when, how much, and what the events say. Labels tell readings of one span apart; its
    events are added up over them."""

    def __init__(self, start: datetime, end: datetime, aggregation: str) -> None:
        self.start, self.end, self.billed = start, end, Decimal(0)
        self.figure = Figure(aggregation)


class Quantities:
    """The readings that an invoice rests on, against the sums of the events that had come in when it was made."""

    def __init__(self, invoice: dict[str, Any], manifest: dict[str, Any]) -> None:
        evidence = invoice["evidence"]
        self.meters = manifest["meters"]
        kinds = {meter["key"]: meter["aggregation"] for meter in self.meters}
        self.parts = {meter["key"] for meter in self.meters if meter.get("part_of")}
        self.cutoff = moment_of(evidence["cutoff"])
        self.periods = [(moment_of(period["start"]), moment_of(period["end"])) for period in evidence["periods"]]
        # (meter, model) -> start and end -> reading
        self.readings: dict[tuple[str, str], dict[tuple[str, str], Span]] = {}
        for period in evidence["periods"]:
            for one in period["readings"]:
                spans = self.readings.setdefault((one["meter"], one["model"]), {})
                start, end, kind = moment_of(one["start"]), moment_of(one["end"]), kinds.get(one["meter"], "sum")
                spans.setdefault((one["start"], one["end"]), Span(start, end, kind)).billed += Decimal(one["quantity"])
        self.has_others = any(not span.figure.is_summed for spans in self.readings.values() for span in spans.values())
        self.unread: dict[tuple[str, str], Decimal] = {}
        # Source and id of each correction -> those of the event it names, and what counts instead; None: nothing.
        self.corrections: dict[_Name, tuple[_Name, Any]] = {}
        self.named: set[_Name] = set()
        self.originals: dict[_Name, dict[str, Any]] = {}
        self.findings = self._uncovered(manifest)

    def _uncovered(self, manifest: dict[str, Any]) -> list[str]:
        """Events count for the invoice from a day before its first period (clocks differ) up to its cutoff."""
        first = (min(start for start, _ in self.periods) - timedelta(days=1)).date().isoformat()
        last = self.cutoff.date().isoformat()
        # Nothing came in on days without a seal.
        if any(first <= seal["day"] < manifest["from"] for seal in manifest["seals"]):
            return [f"The export begins with {manifest['from']}; this invoice needs the events from {first} on."]
        if manifest["to"] < last:
            return [f"The export ends with {manifest['to']}; this invoice needs the events up to {last}."]
        return []

    def add(self, event: dict[str, Any]) -> None:
        if moment_of(event["received_at"]) > self.cutoff:
            return
        if event["type"] in CORRECTING_TYPES:
            named = event["data"]["corrects"]
            self.named.add((named["source"], named["id"]))
            self.corrections[_name(event)] = (named["source"], named["id"]), event["data"].get("data")
        self._add(event, event["data"], leaf_place(event), 1)

    @property
    def needs_second_reading(self) -> bool:
        return bool(self.corrections) or self.has_others

    def remember(self, event: dict[str, Any]) -> None:
        """Of a second reading: keep the events that corrections name; count the others where nothing can be taken
        back from what was counted."""
        if moment_of(event["received_at"]) > self.cutoff:
            return
        if _name(event) in self.named:
            self.originals[_name(event)] = event
        else:
            self._add(event, event["data"], leaf_place(event), 1, summed=False)

    def settle(self) -> None:
        """Take back what was corrected and count what stands in its place, where the first of the chain counted."""
        for name, (named, instead) in self.corrections.items():
            first = named
            while first in self.corrections:
                first = self.corrections[first][0]
            original = self.originals.get(first)
            # Received before the export begins, it counts for none of the invoice's periods.
            if original is not None:
                back = self.corrections[named][1] if named in self.corrections else original["data"]
                place = leaf_place({"source": name[0], "id": name[1]})
                self._add(original, back, place, -1)
                self._add(original, instead, place, 1)
                if name not in self.named:
                    self._add(original, instead, place, 1, summed=False)

    def _add(self, event: dict[str, Any], data: Any, key: bytes, sign: int, *, summed: bool = True) -> None:
        """Count data at the time of an event, for the meters that are sums or for all others."""
        time = moment_of(event["time"])
        if data is None or not any(start <= time < end for start, end in self.periods):
            return
        for meter in self.meters:
            is_summed = meter["aggregation"] in ("sum", "count", "average")
            definition = _definition_at(meter, time) if meter["event_type"] == event["type"] else None
            if is_summed != summed or definition is None or not all(_holds(one, data) for one in definition["filters"]):
                continue
            value = _value_of(data, meter)
            if value is not None:
                model = _model_of(data, definition) if meter["aggregation"] in ("sum", "count") else ""
                model = _bounded_model(model, meter, definition, time)
                self._count(meter, model, (time, key), value, sign)

    def _count(self, meter: dict[str, Any], model: str, place: tuple[datetime, bytes], value: Any, sign: int) -> None:
        for span in self.readings.get((meter["key"], model), {}).values():
            if span.start <= place[0] < span.end:
                span.figure.add(value, place, sign)
                return
        if meter["key"] not in self.parts and meter["aggregation"] in ("sum", "count"):
            where = (meter["key"], model)
            self.unread[where] = self.unread.get(where, Decimal(0)) + sign * value

    def finish(self) -> list[str]:
        if self.findings:
            return self.findings
        for (meter, model), spans in sorted(self.readings.items()):
            for span in spans.values():
                metered = span.figure.value()
                if span.billed != metered:
                    self.findings.append(
                        f"{meter} {model or '(no model)'} from {span.start.isoformat()} to {span.end.isoformat()}: "
                        f"the invoice rests on {span.billed:f}, the events say {metered:f}."
                    )
        for (meter, model), metered in sorted(self.unread.items()):
            if metered:
                self.findings.append(
                    f"{meter} {model or '(no model)'}: the events say {metered:f}, the invoice nothing."
                )
        return self.findings


def _name(event: dict[str, Any]) -> _Name:
    return event["source"], event["id"]


# --- What a meter reads -----------------------------------------------------------------------------------------------


def _definition_at(meter: dict[str, Any], time: datetime) -> dict[str, Any] | None:
    """The meter's definition in force at a time; None: it reads nothing then."""
    archived_at = meter.get("archived_at")
    if archived_at is not None and time >= moment_of(archived_at):
        return None
    first = {"filters": [], **meter}
    held = [one for one in (first, *meter.get("revisions", ())) if moment_of(one["effective_from"]) <= time]
    return held[-1] if held else None


def _value_of(data: dict[str, Any], meter: dict[str, Any]) -> Any:
    """What an event adds to a meter: a number, or of different values a text; None: it does not feed it."""
    if meter["aggregation"] == "count":
        return Decimal(1)
    value = _member(data, meter["value_field"])
    return _text(value) if meter["aggregation"] == "unique_count" else _number(value)


def _model_of(data: dict[str, Any], definition: dict[str, Any]) -> str:
    model = data.get("model") if "model" in definition["dimensions"] else None
    if model is None:
        return ""
    return model if isinstance(model, str) else canonical_json(model)


def _bounded_model(model: str, meter: dict[str, Any], definition: dict[str, Any], time: datetime) -> str:
    """Where a meter without other labels had too many series, all its models count as one."""
    optional = {*definition["dimensions"], *definition.get("tiers", {})} - PRICED_BY
    spans = meter.get("bounded", ())
    is_bounded = any(moment_of(one["from"]) <= time < moment_of(one["until"]) for one in spans)
    return "(other)" if model and is_bounded and not optional else model


def _member(data: dict[str, Any], path: str) -> Any:
    """The member of this name or, where there is none, the one that the dots lead to through objects."""
    if path in data:
        return data[path]
    found: Any = data
    for name in path.split("."):
        found = found.get(name) if isinstance(found, dict) else None
    return found


def _number(value: Any) -> Decimal | None:
    if isinstance(value, str) and DECIMAL_TEXT.fullmatch(value):
        return Decimal(value)
    return value if isinstance(value, Decimal) else None


def _text(value: Any) -> str | None:
    """A text, a number in its shortest form, true or false; None: anything else."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Decimal):
        return canonical_number(value)
    return value if isinstance(value, str) else None


def _holds(condition: dict[str, Any], data: dict[str, Any]) -> bool:
    value, operator, values = _member(data, condition["field"]), condition["operator"], condition.get("values", [])
    if operator in ("exists", "absent"):
        return (value is not None) == (operator == "exists")
    if operator in ("gt", "gte", "lt", "lte"):
        number = _number(value)
        bound = Decimal(values[0])
        return number is not None and (
            (number > bound and operator[0] == "g")
            or (number < bound and operator[0] == "l")
            or (number == bound and operator.endswith("e"))
        )
    return (_text(value) in values) == (operator in ("eq", "in"))


def moment_of(text: str) -> datetime:
    moment = datetime.fromisoformat(text.replace("Z", "+00:00"))
    return moment.astimezone(timezone.utc)  # noqa: UP017 (Python 3.9 has no datetime.UTC)
