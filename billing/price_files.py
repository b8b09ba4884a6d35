"""The price book as a CSV file: written out whole, and read back as rows to propose. A file is taken whole or not."""

import csv
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import Any

from accounts.errors import DomainError
from billing.models import Price, PriceKind
from billing.price_book import conditions_from, require_possible
from billing.price_proposals import WantedPrice
from metering.models import Meter

# What is read; the file that is written begins with the id and ends with what is known of the row.
COLUMNS = (
    *("kind", "meter", "model", "currency", "amount", "scale", "valid_from", "valid_until", "windows"),
    *("service_tier", "context_above", "context_up_to", "cache_ttl", "region"),
)
NEEDED = ("meter", "currency", "amount", "valid_from")
WRITTEN = ("id", *COLUMNS, "known_from", "source", "superseded_by")
LISTED_LINES = 20
MOST_ROWS = 20_000


class PriceFileInvalid(DomainError):
    code = "price_file_invalid"
    sentence = "This is not a price file."


def write_prices_file(rows: Iterable[Price]) -> Iterator[str]:
    """Lines of CSV, a header first; every row ever added, superseded ones too."""
    writer = csv.DictWriter(_Echo(), WRITTEN)
    yield writer.writerow(dict(zip(WRITTEN, WRITTEN, strict=True)))
    for price in rows:
        yield writer.writerow(_as_text(price))


def read_prices_file(lines: Iterable[str]) -> list[WantedPrice]:
    """The rows of a file with a header; columns that are not read are passed over. Raises PriceFileInvalid, which names
    the lines that cannot be taken."""
    reader = csv.DictReader(lines)
    missing = [name for name in NEEDED if name not in (reader.fieldnames or ())]
    if missing:
        raise PriceFileInvalid(f"The file has no column {', '.join(missing)}.")
    meters = {meter.key: meter for meter in Meter.objects.active()}
    rows: list[WantedPrice] = []
    mistakes: list[str] = []
    for row in reader:
        if len(rows) == MOST_ROWS:
            raise PriceFileInvalid(f"The file has more than {MOST_ROWS:,} rows. Split it.")
        try:
            rows.append(_wanted({name: (row.get(name) or "").strip() for name in COLUMNS}, meters))
        except (ValueError, InvalidOperation, DomainError) as error:
            mistakes.append(f"line {reader.line_num}: {getattr(error, 'sentence', None) or error}")
    if mistakes:
        more = f" and {len(mistakes) - LISTED_LINES} more" if len(mistakes) > LISTED_LINES else ""
        raise PriceFileInvalid("; ".join(mistakes[:LISTED_LINES]) + more)
    return rows


class _Echo:
    """A file for the writer that gives back what is written."""

    def write(self, text: str) -> str:
        return text


def _as_text(price: Price) -> dict[str, str]:
    values = {name: getattr(price, name) for name in COLUMNS if name != "meter"}
    successor = getattr(price, "superseded_by", None)
    values |= {"id": price.public_id, "meter": price.meter.key, "known_from": price.known_from, "source": price.source}
    values |= {"superseded_by": successor.public_id if successor else None}
    return {name: _text(values[name]) for name in WRITTEN}


def _text(value: Any) -> str:
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
    if isinstance(value, Decimal):
        return format(value.normalize(), "f")
    return "" if value is None else str(value)


def _wanted(row: dict[str, str], meters: dict[str, Meter]) -> WantedPrice:
    meter = meters.get(row["meter"])
    if meter is None:
        raise ValueError(f"there is no meter {row['meter']!r}")
    wanted = WantedPrice(
        meter=meter,
        model=row["model"],
        amount=_decimal(row["amount"], "amount"),
        scale=_decimal(row["scale"], "scale") if row["scale"] else meter.display_scale,
        valid_from=_instant(row["valid_from"], "valid_from"),
        valid_until=_instant(row["valid_until"], "valid_until") if row["valid_until"] else None,
        kind=_kind(row["kind"]),
        currency=row["currency"],
        windows=row["windows"],
        conditions=conditions_from(
            {
                "service_tier": row["service_tier"],
                "context_above": _given(int, row["context_above"]),
                "context_up_to": _given(int, row["context_up_to"]),
                "cache_ttl": row["cache_ttl"],
                "region": row["region"],
            }
        ),
    )
    require_possible(wanted.currency, wanted.valid_from, wanted.valid_until, wanted.windows)
    return wanted


def _kind(text: str) -> str:
    if text and text not in PriceKind.values:
        raise ValueError(f"kind must be {' or '.join(PriceKind.values)}, not {text!r}")
    return text or PriceKind.LIST


def _decimal(text: str, name: str) -> Decimal:
    try:
        number = Decimal(text)
    except InvalidOperation:
        raise ValueError(f"{name} {text!r} is not a number") from None
    if not number.is_finite() or number < 0 or (name == "scale" and not number):
        raise ValueError(f"{name} {text!r} is not a number that can be a price")
    return number


def _instant(text: str, name: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f"{name} {text!r} is no instant such as 2026-11-01T00:00:00Z") from None
    if moment.tzinfo is None:
        raise ValueError(f"{name} {text!r} does not say its time zone")
    return moment


def _given[T](read: Callable[[str], T], text: str) -> T | None:
    return read(text) if text else None
