"""Quotas, prices and requests for tests of admission, made through the real verbs."""

import itertools
from datetime import datetime
from decimal import Decimal
from typing import Any

from accounts.models import Organisation
from metering.admission import Admission, AdmissionRequest, admit
from metering.models import Hold, PriceEstimate, Quota, QuotaWindow
from metering.quotas import QuotaSpec, define_quota
from tests.factories import KeyWithSecret

_calls = itertools.count(1)


def quota(
    organisation: Organisation, measure: str, amount: Any, window: str = "none", *, now: datetime, **fields: Any
) -> Quota:
    """quota(acme, "input_tokens", 500, "day", now=NOW): a meter's key, requests, concurrent, or USD for spend."""
    if measure in ("requests", "concurrent"):
        what = {"measure": measure}
    elif measure.isupper():
        what = {"measure": "spend", "currency": measure}
    else:
        what = {"measure": "meter", "meter_key": measure}
    set_by = fields.pop("set_by", "operator")
    spec = QuotaSpec(**what, amount=Decimal(amount), window=window, **fields)
    return define_quota(organisation, spec, set_by=set_by, now=now, actor="test")


def estimate(
    organisation: Organisation, meter: str, unit_price: Any, *, model: str = "", valid_from: datetime
) -> PriceEstimate:
    """What billing writes."""
    return PriceEstimate.objects.create(
        organisation=organisation,
        meter_key=meter,
        model=model,
        currency="USD",
        unit_price=Decimal(unit_price),
        valid_from=valid_from,
    )


def asking(key: KeyWithSecret, call_id: str = "", *, model: str = "m-1", **fields: Any) -> AdmissionRequest:
    """A request for units: asking(acme_key, input_tokens=75)."""
    named = {name: fields.pop(name) for name in list(fields) if name in AdmissionRequest.__struct_fields__}
    units = {"estimate": {meter: Decimal(count) for meter, count in fields.items()}} if fields else {}
    call_id = call_id or f"call-{next(_calls)}"
    return AdmissionRequest(call_id=call_id, key_digest=key.digest, model=model, **(units | named))


def ask(key: KeyWithSecret, *, now: datetime, **fields: Any) -> Admission:
    return admit(asking(key, **fields), now=now)


def hold_of(answer: Admission) -> Hold:
    assert answer.id is not None, answer.refusal
    return Hold.objects.get(id=answer.id)


def counter(one: Quota, subject: str = "") -> tuple[Decimal, Decimal]:
    """Used and held of the newest window."""
    row = QuotaWindow.objects.filter(quota_id=one.pk, subject=subject).order_by("-starts_at").first()
    return (row.used, row.held) if row else (Decimal(0), Decimal(0))
