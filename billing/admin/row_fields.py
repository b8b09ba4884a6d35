"""Form fields for what a component keeps as JSON: rows of inputs instead of braces. Empty rows are left out."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any

from django import forms
from django.template.loader import render_to_string
from django.utils.safestring import SafeString

from metering.models import Enforcement, Measure, Meter, Window

# Empty rows under the filled ones.
SPARE = 3
MOST_ROWS = 40

type Row = dict[str, str]


@dataclass(frozen=True, slots=True)
class Column:
    name: str
    label: str
    # Value and label of what can be chosen; None: a number or text. Called for each page, since meters come and go.
    choices: Callable[[], Sequence[tuple[str, str]]] | None = None
    is_number: bool = True


class RowsWidget(forms.Widget):
    def __init__(self, columns: Sequence[Column]) -> None:
        super().__init__()
        self.columns = columns

    def value_from_datadict(self, data: Mapping[str, Any], files: Any, name: str) -> list[Row]:
        rows = []
        for number in range(MOST_ROWS):
            cells = {
                column.name: str(data.get(f"{name}-{number}-{column.name}", "")).strip() for column in self.columns
            }
            if any(cells.values()):
                rows.append(cells)
        return rows

    def value_omitted_from_data(self, data: Mapping[str, Any], files: Any, name: str) -> bool:
        return False

    def render(self, name: str, value: Any, attrs: Any = None, renderer: Any = None) -> SafeString:
        filled: list[Row] = list(value or [])
        rows = [
            [
                {
                    "name": f"{name}-{number}-{column.name}",
                    "label": f"{column.label}, row {number + 1}",
                    "value": row.get(column.name) or "",
                    "choices": [("", "–"), *column.choices()] if column.choices else None,
                }
                for column in self.columns
            ]
            for number, row in enumerate([*filled, *({} for _ in range(SPARE))])
        ]
        return render_to_string(
            "billing/admin/rows.html", {"columns": self.columns, "rows": rows, "id": (attrs or {}).get("id", "")}
        )


class RowsField(forms.Field):
    """Cleans to what the model keeps; `as_rows` makes rows of that again."""

    columns: Sequence[Column] = ()

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(required=False, widget=RowsWidget(self.columns), **kwargs)

    def prepare_value(self, value: Any) -> list[Row]:
        return self.as_rows(value)

    def clean(self, value: Any) -> Any:
        for row in value or []:
            self._require_numbers(row)
        return self.from_rows(value or [])

    def has_changed(self, initial: Any, data: Any) -> bool:
        return self.as_rows(initial) != self.as_rows(self.from_rows(data or []))

    def as_rows(self, value: Any) -> list[Row]:
        return list(value or [])

    def from_rows(self, rows: Sequence[Row]) -> Any:
        return list(rows)

    def _require_numbers(self, row: Row) -> None:
        for column in self.columns:
            text = row.get(column.name) or ""
            if column.is_number and not column.choices and text and not _is_number(text):
                raise forms.ValidationError(f"{column.label}: “{text}” is not a number.", code="not_a_number")


def meter_choices() -> list[tuple[str, str]]:
    return [(meter.key, meter.name) for meter in Meter.objects.order_by("name")]


class TiersField(RowsField):
    """[{"up_to": "1000", "unit_price": "0.1", "flat": "0"}, …]; without an end: empty."""

    columns = (
        Column("up_to", "Up to (empty: without end)"),
        Column("unit_price", "Unit price"),
        Column("flat", "Fee of the tier"),
    )

    def as_rows(self, value: Any) -> list[Row]:
        return [{name: tier.get(name) or "" for name in ("up_to", "unit_price", "flat")} for tier in value or []]

    def from_rows(self, rows: Sequence[Row]) -> Any:
        return [
            {"up_to": row["up_to"] or None, "unit_price": row["unit_price"] or "0", "flat": row["flat"] or "0"}
            for row in rows
        ]


class ByMeterField(RowsField):
    """{"input_tokens": "1000000"}."""

    columns = (Column("meter", "Meter", meter_choices), Column("number", "Units"))

    def as_rows(self, value: Any) -> list[Row]:
        if isinstance(value, list):
            return value
        return [{"meter": meter, "number": number} for meter, number in (value or {}).items()]

    def from_rows(self, rows: Sequence[Row]) -> Any:
        if any(not row["meter"] or not row["number"] for row in rows):
            raise forms.ValidationError("Choose a meter and say how many in each row.", code="half_a_row")
        return {row["meter"]: row["number"] for row in rows}


class LabelsField(RowsField):
    """{"service_tier": ["batch", "flex"]}."""

    columns = (
        Column("label", "Label", is_number=False),
        Column("values", "Values, with commas", is_number=False),
    )

    def as_rows(self, value: Any) -> list[Row]:
        if isinstance(value, list):
            return value
        return [{"label": label, "values": ", ".join(values)} for label, values in (value or {}).items()]

    def from_rows(self, rows: Sequence[Row]) -> Any:
        return {row["label"]: _parts(row["values"]) for row in rows if row["label"]}


class LimitsField(RowsField):
    """What `plan_limits` writes into metering."""

    columns = (
        Column("measure", "Of", lambda: Measure.choices),
        Column("meter", "Meter", meter_choices),
        Column("amount", "At most"),
        Column("currency", "Currency of spend", is_number=False),
        Column("window", "In a", lambda: Window.choices),
        Column("enforcement", "Beyond it", lambda: Enforcement.choices),
        Column("models", "Only models, with commas", is_number=False),
    )

    def as_rows(self, value: Any) -> list[Row]:
        rows = []
        for limit in value or []:
            models = limit.get("models") or ""
            text = models if isinstance(models, str) else ", ".join(models)
            rows.append({column.name: limit.get(column.name) or "" for column in self.columns} | {"models": text})
        return rows

    def from_rows(self, rows: Sequence[Row]) -> Any:
        return [row | {"models": _parts(row["models"])} for row in rows]


def _parts(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _is_number(text: str) -> bool:
    try:
        return Decimal(text).is_finite()
    except InvalidOperation:
        return False
