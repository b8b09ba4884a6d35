"""What an invoice rests on, as JSON that is frozen with it: readings, prices and plan, and a digest over everything.

Numbers are decimals as text and instants ISO 8601 in UTC, so that anybody can compute the digest and the bill again.
"""

import hashlib
from collections.abc import Iterable
from datetime import datetime
from decimal import Decimal
from typing import Any

import msgspec

from billing import rating
from billing.bills import Bill, BillLine
from billing.money import plain
from billing.rated_usage import RatedUsage
from metering.models import Seal

FORMAT = 1


def evidence_of(bill: Bill, *, parties: dict[str, Any], head: Seal | None) -> dict[str, Any]:
    """The evidence of a bill that is being finalised. `digest` covers the rest of it, the lines and the parties.

    `head` is the newest seal over the organisation's usage: the customer holds it with the invoice, so that sealed days
    can be neither rewritten nor cut off later without contradicting it.
    """
    evidence = {
        "format": FORMAT,
        "cutoff": instant(bill.cutoff),
        "seal": None if head is None else {"day": head.day.isoformat(), "digest": head.digest},
        "plan": {"key": bill.version.plan.key, "name": bill.version.plan.name, "version": bill.version.number},
        "periods": [_period_evidence(usage) for usage in bill.rated],
        "unpriced": [_reading(reading) for reading in bill.unpriced],
        "not_charged": [_reading(reading) for reading in bill.uncovered],
        **_credit(bill),
    }
    covered = {
        "evidence": evidence,
        "parties": parties,
        "lines": [_line(line) for line in bill.lines],
        "total_exact": decimal(bill.total_exact),
        "total_minor": bill.total_minor,
        "currency": bill.currency,
    }
    return {**evidence, "digest": digest_of(covered)}


def _credit(bill: Bill) -> dict[str, Any]:
    """What each grant had and paid; nothing where no credit was used."""
    draws = [
        {"grant": draw.grant.public_id, "had": decimal(draw.had), "paid": decimal(draw.amount)} for draw in bill.draws
    ]
    return {"credit": draws} if draws else {}


def digest_of(covered: dict[str, Any]) -> str:
    """SHA-256 in hexadecimal of the JSON with sorted keys, no spaces, UTF-8."""
    return hashlib.sha256(msgspec.json.encode(covered, order="sorted")).hexdigest()


def decimal(number: Decimal) -> str:
    """Every digit, no exponent, no trailing zeros: one text for one number."""
    return format(plain(number), "f")


def instant(moment: datetime) -> str:
    return moment.isoformat().replace("+00:00", "Z")


def _period_evidence(usage: RatedUsage) -> dict[str, Any]:
    return {
        "start": instant(usage.period.start),
        "end": instant(usage.period.end),
        "plan_version": usage.version.number,
        **_stretches(usage),
        "readings": [_reading(reading) for reading in _in_order(usage.readings)],
        "prices": [_price(row) for row in _rows_applied(usage)],
    }


def _stretches(usage: RatedUsage) -> dict[str, Any]:
    """Which plan held when, where it was not one throughout."""
    if len(usage.stretches) == 1 and usage.stretches[0].is_charged:
        return {}
    held = [
        {
            "start": instant(stretch.period.start),
            "end": instant(stretch.period.end),
            "plan": stretch.version.plan.key,
            "version": stretch.version.number,
            **({"nothing_charged": str(stretch.rest)} if stretch.rest else {}),
        }
        for stretch in usage.stretches
    ]
    return {"plans": held}


def _in_order(readings: Iterable[rating.Reading]) -> list[rating.Reading]:
    return sorted(readings, key=lambda reading: reading.place)


def _rows_applied(usage: RatedUsage) -> list[rating.PriceRow]:
    """In the order of their ids, which tell customers' prices from the provider's costs."""
    applied = {row_id for line in usage.rating.lines for row_id in line.price_row_ids}
    books = [book for book in (usage.prices, usage.costs) if book is not None]
    found = (book.row(row_id) for row_id in sorted(applied) for book in books)
    return [row for row in found if row is not None]


def _reading(reading: rating.Reading) -> dict[str, Any]:
    labels = {"labels": dict(reading.known.pairs)} if reading.labels else {}
    return {
        **labels,
        "meter": reading.meter,
        "model": reading.model,
        "start": instant(reading.start),
        "end": instant(reading.end),
        "quantity": decimal(reading.quantity),
    }


def _price(row: rating.PriceRow) -> dict[str, Any]:
    holds_for = {"windows": str(row.windows)} if row.windows else {}
    holds_for |= {"conditions": str(row.conditions)} if row.conditions else {}
    return {
        **holds_for,
        "id": row.id,
        "meter": row.meter,
        "model": row.model,
        "amount": decimal(row.amount),
        "scale": decimal(row.scale),
        "valid_from": instant(row.valid_from),
        "valid_until": None if row.valid_until is None else instant(row.valid_until),
    }


def _line(line: BillLine) -> dict[str, Any]:
    return {
        "key": line.key,
        "description": line.description,
        "quantity": None if line.quantity is None else decimal(line.quantity),
        "amount_exact": decimal(line.amount_exact),
        "amount_minor": line.amount_minor,
    }
