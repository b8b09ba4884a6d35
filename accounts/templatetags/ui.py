"""How figures, instants and icons are shown. Presentation only: nothing here rounds what is stored or owed.

Numbers are `Decimal`, `int` or their exact text; a float is a mistake and raises. None is unknown, never zero,
and shows as a dash. Money is formatted by `billing.money`, not here.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, tzinfo
from decimal import ROUND_HALF_UP, Context, Decimal
from functools import lru_cache
from json import dumps
from typing import Any
from zoneinfo import ZoneInfo

import lucide
from django import template
from django.core.paginator import Page
from django.template.defaultfilters import date as format_date
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString, mark_safe

register = template.Library()

type Number = Decimal | int | str

UNKNOWN = "\N{EN DASH}"
SUFFIXES = ((12, "T"), (9, "B"), (6, "M"), (3, "K"))
# Wide enough that no figure of ours is ever rounded by arithmetic, only by an explicit quantize.
EXACT = Context(prec=200, rounding=ROUND_HALF_UP)


# --- Icons ------------------------------------------------------------------------------------------------------------


@register.simple_tag
@lru_cache(maxsize=256)
def icon(name: str, label: str = "") -> SafeString:
    """A Lucide icon as inline SVG: decoration unless it is given a label."""
    # Text written in a template arrives marked as safe; adding "" to it takes the mark away.
    svg = lucide._render_icon(name, None, **{"class": "icon", "width": "18", "height": "18", "stroke-width": "1.75"})
    if not label:
        return mark_safe(svg.replace("<svg", '<svg aria-hidden="true" focusable="false"', 1))  # noqa: S308
    opening = format_html('<svg role="img" aria-label="{}" focusable="false"', label + "")
    return mark_safe(svg.replace("<svg", opening, 1))  # noqa: S308


# --- Numbers ----------------------------------------------------------------------------------------------------------


def exact(value: Number) -> Decimal:
    """The number a template was given, as a finite Decimal; floats and non-numbers raise."""
    if isinstance(value, bool | float):
        raise TypeError(f"{value!r} is not an exact number.")
    number = Decimal(value)
    if not number.is_finite():
        raise ValueError(f"{value!r} is not a finite number.")
    return number


@register.filter
def grouped(value: Number | None, places: int | None = None) -> str:
    """12345.60 -> 12,345.60: every digit there is, in threes. `places` rounds for show, half away from zero."""
    if value is None or value == "":
        return UNKNOWN
    number = exact(value)
    if places is not None:
        number = number.quantize(Decimal(1).scaleb(-places), context=EXACT)
    return f"{number:,f}"


@register.filter
def trimmed(value: Number | None) -> str:
    """0.150000000000 -> 0.15: grouped, without zeros that say nothing after the point."""
    text = grouped(value)
    return text.rstrip("0").rstrip(".") if "." in text else text


@register.filter
def compact(value: Number | None) -> str:
    """12345678 -> 12.3M: three significant digits. For glances and axes; put the full figure nearby."""
    if value is None or value == "":
        return UNKNOWN
    number = exact(value)
    if abs(number) < 1000:
        return trimmed(_three_digits(number))
    # Round first: 999,950 is 1M, not 1000K.
    rounded = _three_digits(number)
    power, suffix = next((power, suffix) for power, suffix in SUFFIXES if abs(rounded) >= Decimal(10) ** power)
    return trimmed(rounded.scaleb(-power, context=EXACT)) + suffix


def _three_digits(number: Decimal) -> Decimal:
    return number.quantize(Decimal(1).scaleb(number.adjusted() - 2), context=EXACT) if number else Decimal(0)


@register.filter
def percent_of(part: Number | None, whole: Number | None) -> str:
    """`used|percent_of:limit` -> 42.5%: one place below ten percent and above, none when it says nothing."""
    if part is None or whole is None or part == "" or whole == "" or not exact(whole):
        return UNKNOWN
    share = EXACT.divide(exact(part) * 100, exact(whole))
    return trimmed(share.quantize(Decimal("0.1"), context=EXACT)) + "%"


@register.filter
def level_of(part: Number | None, whole: Number | None) -> str:
    """ok, warn (from 80 %) or over (from 100 %): the `data-level` of a bar."""
    if part is None or whole is None or not exact(whole):
        return "ok"
    if exact(part) >= exact(whole):
        return "over"
    return "warn" if exact(part) * 5 >= exact(whole) * 4 else "ok"


@register.simple_tag(name="register")
def counter_register(value: Number | None, digits: int = 0) -> SafeString:
    """A figure on digit wheels, as on a meter; screen readers get it as one number. `digits` pads the whole part."""
    text = grouped(value)
    if text == UNKNOWN:
        return format_html('<span class="register"><span class="wheel leading">{}</span></span>', UNKNOWN)
    whole, _, fraction = text.partition(".")
    missing = max(0, digits - sum(character.isdigit() for character in whole))
    wheels = [("wheel leading", "0")] * missing
    wheels += [("wheel" if character.isdigit() else "mark", character) for character in whole]
    if fraction:
        wheels += [("mark", "."), *(("wheel fraction", character) for character in fraction)]
    faces = format_html_join("", '<span class="{}">{}</span>', wheels)
    return format_html(
        '<span class="register" aria-hidden="true">{}</span><span class="visually-hidden">{}</span>', faces, text
    )


# --- Time -------------------------------------------------------------------------------------------------------------


def _zone(name: str | tzinfo | None) -> tzinfo:
    if name is None or name == "":
        return UTC
    return ZoneInfo(name) if isinstance(name, str) else name


def _instant(moment: datetime) -> datetime:
    if moment.tzinfo is None:
        raise ValueError(f"{moment!r} has no time zone.")
    return moment


@register.filter
def local_time(moment: datetime | None, zone: str | tzinfo | None = None) -> str:
    """`event.received_at|local_time:organisation.zone` -> <time>22 Nov 2026, 17:50</time>, with UTC as its title."""
    return _time_element(moment, zone, "j M Y, H:i")


@register.filter
def local_date(moment: datetime | date | None, zone: str | tzinfo | None = None) -> str:
    """The day alone. A plain date belongs to no zone and is shown as it is."""
    if isinstance(moment, date) and not isinstance(moment, datetime):
        return format_html('<time datetime="{}">{}</time>', moment.isoformat(), format_date(moment, "j M Y"))
    return _time_element(moment, zone, "j M Y")


def _time_element(moment: datetime | None, zone: str | tzinfo | None, pattern: str) -> str:
    if not moment:
        return UNKNOWN
    local = _instant(moment).astimezone(_zone(zone))
    stamp = moment.astimezone(UTC)
    title = stamp.strftime("%Y-%m-%d %H:%M:%S UTC")
    # datetime keeps the local zone: the template engine would otherwise show it in the server's.
    return format_html(
        '<time datetime="{}" title="{}">{}</time>', stamp.isoformat(), title, format_date(local, pattern)
    )


# --- Charts and dials -------------------------------------------------------------------------------------------------


@register.inclusion_tag("components/chart.html")
def chart(figure: Mapping[str, Any], element_id: str, *, table_open: bool = False) -> dict[str, Any]:
    """A picture of numbers and the table behind it.

    `figure` holds title, kind ("bar", "area", "line"), labels, series (name, values: exact numbers or None), and
    may hold caption, unit, label_heading, stacked and total (False where a total over the series means nothing).
    """
    labels: Sequence[str] = figure["labels"]
    series: Sequence[Mapping[str, Any]] = figure["series"]
    spec = {
        "kind": figure.get("kind", "bar"),
        "unit": figure.get("unit", ""),
        "stacked": figure.get("stacked", True),
        "labels": [str(label) for label in labels],
        "series": [
            {"name": one["name"], "dashed": one.get("dashed", False), "values": [_exact_text(v) for v in one["values"]]}
            for one in series
        ],
    }
    has_total = figure.get("total", len(series) > 1)
    rows = [_chart_row(label, [one["values"][at] for one in series], has_total) for at, label in enumerate(labels)]
    return {
        "figure": figure,
        "element_id": element_id,
        "spec": dumps(spec, ensure_ascii=False, separators=(",", ":")),
        "rows": rows,
        "has_total": has_total,
        "table_open": table_open,
    }


def _exact_text(value: Number | None) -> str | None:
    return None if value is None else f"{exact(value):f}"


def _chart_row(label: str, values: list[Number | None], has_total: bool) -> dict[str, Any]:
    known = [exact(value) for value in values if value is not None]
    return {"label": label, "values": values, "total": sum(known, Decimal(0)) if has_total and known else None}


@dataclass(frozen=True, kw_only=True)
class Tick:
    """A mark on a dial: an angle in degrees, and a label for every fifth."""

    angle: int
    label: str

    @property
    def upright(self) -> int:
        return -self.angle

    @property
    def side(self) -> str:
        """Where its label stands: labels beside the dial grow away from it."""
        if self.angle == 0:
            return "top"
        return "left" if self.angle < 0 else "right"


@register.inclusion_tag("components/dial.html")
def dial(value: Number | None, label: str, *, unit: str = "", full_scale: Number | None = None) -> dict[str, Any]:
    """A dial with a needle. Without `full_scale` the scale is the next 1, 2 or 5 times a power of ten."""
    number = exact(value) if value is not None else None
    top = exact(full_scale) if full_scale else next_scale(number or Decimal(0))
    share = min(max((number or Decimal(0)) / top, Decimal(0)), Decimal(1))
    ticks = [
        Tick(angle=-120 + 12 * step, label=compact(top * step / 20) if step % 5 == 0 else "") for step in range(21)
    ]
    return {
        "value": value,
        "label": label,
        "unit": unit,
        "ticks": ticks,
        # Angles run clockwise from -120 to 120 degrees; the arc is given as percent of its length.
        "needle": f"{Decimal(-120) + 240 * share:.2f}",
        "filled": f"{100 * share:.2f}",
    }


def next_scale(number: Decimal) -> Decimal:
    """The smallest 1, 2 or 5 times a power of ten that is not below the number; at least 100."""
    power = Decimal(10) ** max(2, number.adjusted())
    return next(power * step for step in (1, 2, 5, 10) if power * step >= number)


# --- Pages of a list --------------------------------------------------------------------------------------------------


@register.simple_tag
def elided_pages(page: Page) -> Iterator[int | str]:
    """The numbers a pagination shows: the ends, the neighbours, and "…" between."""
    return page.paginator.get_elided_page_range(page.number, on_each_side=1, on_ends=1)
