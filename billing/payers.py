"""Changing who bills are made out to. Invoices already finalised keep what they froze."""

from collections.abc import Mapping
from typing import Any

from django.conf import settings
from django.db import transaction
from django.http import HttpRequest

from accounts.audit import Actor, record
from accounts.models import Organisation
from billing.models import BillingDetails
from billing.subscribing import ensure_billing_details

FIELDS = ("legal_name", "email", "address", "country", "tax_id")


def parties_of(organisation: Organisation, buyer: BillingDetails) -> dict[str, Any]:
    """Seller and buyer as they are now, for a paper that freezes them."""
    return {
        "seller": {"name": settings.SELLER_NAME, "address": settings.SELLER_ADDRESS},
        "buyer": {
            "name": buyer.legal_name,
            "organisation": organisation.public_id,
            "email": buyer.email,
            "address": buyer.address,
            "country": buyer.country,
            "tax_id": buyer.tax_id,
        },
    }


def update_billing_details(
    organisation: Organisation,
    changes: Mapping[str, str],
    *,
    actor: Actor = None,
    request: HttpRequest | None = None,
) -> BillingDetails:
    """Set those of FIELDS that are given; the audit log says which changed, from what to what."""
    with transaction.atomic():
        ensure_billing_details(organisation)
        details = BillingDetails.objects.select_for_update().get(organisation=organisation)
        before = {name: getattr(details, name) for name in FIELDS}
        for name in FIELDS:
            setattr(details, name, changes.get(name, before[name]))
        details.full_clean()
        details.save()
        changed = {
            name: [before[name], getattr(details, name)] for name in FIELDS if before[name] != getattr(details, name)
        }
        if changed:
            record(
                "billing_details.changed",
                organisation=organisation,
                actor=actor,
                subject_id=organisation.public_id,
                subject_label=details.legal_name,
                details=changed,
                request=request,
            )
    return details
