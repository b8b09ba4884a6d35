"""How money, prices and billing periods are written on pages. Formatting only: every figure is handed in."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

from django import template
from django.template.defaultfilters import date as format_date
from django.utils.html import format_html
from django.utils.safestring import SafeString

from billing.money import format_exact, format_money, round_to_minor
from billing.rating.wording import meter_noun

register = template.Library()

UNKNOWN = "\N{EN DASH}"
SCALE_NAMES = {Decimal(1000): "1K", Decimal(1_000_000): "1M", Decimal(1_000_000_000): "1B"}


@register.filter
def money(minor: int | None, currency: str) -> str:
    """Minor units as owed: `invoice.total_minor|money:invoice.currency` -> $1,234.56."""
    return UNKNOWN if minor is None else format_money(minor, currency)


@register.filter
def exact_money(amount: Decimal | None, currency: str) -> str:
    """An amount before rounding, in full: $0.0000375."""
    return UNKNOWN if amount is None else format_exact(amount, currency)


@register.filter
def rounded_money(amount: Decimal | None, currency: str) -> str:
    """An exact amount as a statement shows it, rounded for reading: $12.35. Never for a bill."""
    return UNKNOWN if amount is None else format_money(round_to_minor(amount, currency), currency)


@register.filter
def meter_words(key: str, names: Mapping[str, str]) -> str:
    """A meter by the name people know it by: `line.meter|meter_words:meter_names`."""
    return names.get(key) or meter_noun(key).capitalize()


@register.filter
def at_which_times(line: Any) -> str:
    """The weekly windows a line of a model's meter was priced in, which its description ends with; else nothing."""
    beginning = f"{line.model}, {meter_noun(line.meter)}, "
    return line.description.removeprefix(beginning) if line.description.startswith(beginning) else ""


@register.filter
def utc_text(stamp: str) -> str:
    """An instant as evidence keeps it, a little easier to read: 2026-11-01 00:00 UTC."""
    return stamp.replace("T", " ").replace(":00Z", " UTC")


@register.simple_tag
def price_per(amount: Decimal | None, scale: Decimal | None, currency: str) -> str:
    """A unit price with what it buys, short: $2.50 / 1M."""
    if amount is None:
        return UNKNOWN
    price = format_exact(amount, currency)
    if scale is None or scale == 1:
        return price
    return f"{price} / {SCALE_NAMES.get(scale.normalize(), f'{scale.normalize():,f}')}"


@register.simple_tag
def period_text(start: datetime, end: datetime, zone: ZoneInfo) -> SafeString:
    """A half-open period as people say it: 1 – 30 November 2026; with times where it does not run from midnight."""
    first, last = start.astimezone(zone), end.astimezone(zone)
    title = f"{start:%Y-%m-%d %H:%M} – {end:%Y-%m-%d %H:%M} UTC"
    return format_html('<span title="{}">{}</span>', title, period_words(first, last))


def period_words(first: datetime, last: datetime) -> str:
    """The words for a period between two local times, the second excluded."""
    if (first.hour, first.minute, last.hour, last.minute) != (0, 0, 0, 0):
        return f"{format_date(first, 'j M Y, H:i')} – {format_date(last, 'j M Y, H:i')}"
    final = last - timedelta(days=1)
    if (first.year, first.month) == (final.year, final.month):
        return f"{first.day} – {format_date(final, 'j F Y')}" if first.day != final.day else format_date(final, "j F Y")
    if first.year == final.year:
        return f"{format_date(first, 'j M')} – {format_date(final, 'j M Y')}"
    return f"{format_date(first, 'j M Y')} – {format_date(final, 'j M Y')}"
