"""Stripe, as far as Kilotoken uses it: one function per call, values of our own out, errors of our own raised.

The only module that imports `stripe`. It holds no rule and no state: what is called when, and what is remembered,
is `billing.stripe_sync`. Amounts are whole minor units; a unit price is never sent.
"""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import cache
from typing import Any

import stripe
from django.conf import settings

from billing.stripe_values import (
    BadSignature,
    NewCheckout,
    NewCustomer,
    NewInvoice,
    Refused,
    RemoteCheckout,
    RemoteEvent,
    RemoteInvoice,
    RemoteLine,
    StripeFailure,
    TemporaryFailure,
)

__all__ = [
    "BadSignature",
    "NewCheckout",
    "NewCustomer",
    "NewInvoice",
    "Refused",
    "RemoteCheckout",
    "RemoteEvent",
    "RemoteInvoice",
    "RemoteLine",
    "StripeFailure",
    "TemporaryFailure",
]

# Stripe takes this many lines in one call, and this many on one invoice.
LINES_PER_CALL = 100
MOST_LINES = 250
# Well under the tasks' time limit: a worker must not hang on one call.
TIMEOUT_SECONDS = 20
# Writes ids to the home folder and reports timings to Stripe: neither is wanted on a server.
stripe.enable_telemetry = False


def is_configured() -> bool:
    """False without a secret key: everything works except collection."""
    return bool(settings.STRIPE_SECRET_KEY)


def expects_live_events() -> bool:
    return str(settings.STRIPE_SECRET_KEY).startswith(("sk_live", "rk_live"))


# --- Customers --------------------------------------------------------------------------------------------------------


def find_customer(customer: NewCustomer) -> str | None:
    """The id of the customer made for an organisation, by e-mail and metadata. Lists are consistent; searches lag."""
    with _translated():
        found = _client().v1.customers.list({"email": customer.email, "limit": 100})
        for candidate in found.auto_paging_iter():
            if _metadata(candidate).get("kilotoken_organisation") == customer.organisation:
                return candidate.id
    return None


def create_customer(customer: NewCustomer, *, key: str) -> str:
    with _translated():
        made = _client().v1.customers.create(
            {
                "name": customer.name,
                "email": customer.email,
                "metadata": {"kilotoken_organisation": customer.organisation},
            },
            {"idempotency_key": key},
        )
    return made.id


# --- Invoices ---------------------------------------------------------------------------------------------------------


def find_invoice(customer: str, *, number: str, since: datetime) -> RemoteInvoice | None:
    """The newest invoice of a customer that carries our number and is not void, created since an instant."""
    with _translated():
        found = _client().v1.invoices.list(
            {"customer": customer, "created": {"gte": int(since.timestamp())}, "limit": 100}
        )
        for candidate in found.auto_paging_iter():
            if _metadata(candidate).get("kilotoken_invoice") == number and candidate.status != "void":
                return _remote_invoice(candidate)
    return None


def retrieve_invoice(stripe_id: str) -> RemoteInvoice:
    with _translated():
        return _remote_invoice(_client().v1.invoices.retrieve(stripe_id))


def create_invoice(invoice: NewInvoice, *, key: str) -> RemoteInvoice:
    """A draft that Stripe leaves alone until it is reconciled: no automatic step, no foreign item, no discount."""
    with _translated():
        made = _client().v1.invoices.create(
            {
                "customer": invoice.customer,
                "currency": invoice.currency.lower(),
                "collection_method": "send_invoice",
                "days_until_due": invoice.days_until_due,
                "auto_advance": False,
                "pending_invoice_items_behavior": "exclude",
                "discounts": "",
                "number": invoice.number,
                "description": invoice.description,
                "metadata": {"kilotoken_invoice": invoice.number, "kilotoken_digest": invoice.digest},
            },
            {"idempotency_key": key},
        )
    return _remote_invoice(made)


def list_lines(stripe_id: str) -> dict[str, int]:
    """Amounts by our line key; a line that is not ours appears under Stripe's own id."""
    with _translated():
        lines = _client().v1.invoices.line_items.list(stripe_id, {"limit": 100})
        return {_metadata(line).get("kilotoken_line", line.id): line.amount for line in lines.auto_paging_iter()}


def add_lines(stripe_id: str, lines: Sequence[RemoteLine], *, key: str) -> None:
    """Add at most LINES_PER_CALL lines: all of them or none."""
    with _translated():
        _client().v1.invoices.add_lines(
            stripe_id,
            {
                "lines": [
                    {
                        "amount": line.amount,
                        "description": line.description,
                        "period": {"start": int(line.start.timestamp()), "end": int(line.end.timestamp())},
                        "metadata": {"kilotoken_line": line.key},
                    }
                    for line in lines
                ]
            },
            {"idempotency_key": key},
        )


def finalise_invoice(stripe_id: str, *, key: str) -> RemoteInvoice:
    with _translated():
        return _remote_invoice(
            _client().v1.invoices.finalize_invoice(stripe_id, {"auto_advance": False}, {"idempotency_key": key})
        )


def send_invoice(stripe_id: str, *, key: str) -> RemoteInvoice:
    """Stripe e-mails the customer a link to the hosted page."""
    with _translated():
        return _remote_invoice(_client().v1.invoices.send_invoice(stripe_id, {}, {"idempotency_key": key}))


def delete_draft(stripe_id: str) -> None:
    with _translated():
        _client().v1.invoices.delete(stripe_id)


def void_invoice(stripe_id: str, *, key: str) -> RemoteInvoice:
    with _translated():
        return _remote_invoice(_client().v1.invoices.void_invoice(stripe_id, {}, {"idempotency_key": key}))


# --- Checkout ---------------------------------------------------------------------------------------------------------


def create_checkout(checkout: NewCheckout, *, key: str) -> RemoteCheckout:
    metadata = {"kilotoken_purchase": checkout.purchase}
    with _translated():
        made = _client().v1.checkout.sessions.create(
            {
                "mode": "payment",
                "customer": checkout.customer,
                "client_reference_id": checkout.purchase,
                "line_items": [
                    {
                        "quantity": 1,
                        "price_data": {
                            "currency": checkout.currency.lower(),
                            "unit_amount": checkout.amount,
                            "product_data": {"name": checkout.description},
                        },
                    }
                ],
                "metadata": metadata,
                "payment_intent_data": {"metadata": metadata, "description": checkout.description},
                "success_url": checkout.return_url,
                "cancel_url": checkout.return_url,
            },
            {"idempotency_key": key},
        )
    return _remote_checkout(made)


def retrieve_checkout(stripe_id: str) -> RemoteCheckout:
    with _translated():
        return _remote_checkout(_client().v1.checkout.sessions.retrieve(stripe_id, {"expand": ["payment_intent"]}))


def expire_checkout(stripe_id: str) -> RemoteCheckout:
    """From then on it cannot be paid. Refused for one that is paid or expired."""
    with _translated():
        return _remote_checkout(_client().v1.checkout.sessions.expire(stripe_id))


def refunded_amount(payment_intent: str) -> int:
    """What was given back of a payment, in minor units; what failed or is under way does not count."""
    with _translated():
        found = _client().v1.refunds.list({"payment_intent": payment_intent, "limit": 100})
        return sum(refund.amount for refund in found.auto_paging_iter() if refund.status == "succeeded")


# --- Events -----------------------------------------------------------------------------------------------------------


def read_webhook(body: bytes, signature: str | None) -> RemoteEvent:
    """Check the signature over the bytes as they came. Several secrets are tried, so that they can be rotated."""
    for secret in settings.STRIPE_WEBHOOK_SECRETS:
        try:
            return _remote_event(_client().construct_event(body, signature, secret))
        except stripe.SignatureVerificationError:
            continue
        except ValueError as error:
            raise BadSignature("The body is not an event.") from error
    raise BadSignature("No configured secret signed this event.")


def list_events(*, since: datetime, types: Sequence[str]) -> Iterator[RemoteEvent]:
    """Events since an instant, newest first; Stripe keeps them for 30 days and takes at most 20 types."""
    with _translated():
        found = _client().v1.events.list(
            {"created": {"gte": int(since.timestamp())}, "types": list(types), "limit": 100}
        )
        for event in found.auto_paging_iter():
            yield _remote_event(event)


# --- Inside -----------------------------------------------------------------------------------------------------------


def _client() -> stripe.StripeClient:
    return _client_for(settings.STRIPE_SECRET_KEY, settings.STRIPE_API_BASE)


@cache
def _client_for(secret_key: str, api_base: str) -> stripe.StripeClient:
    return stripe.StripeClient(
        secret_key or "not-configured",
        stripe_version=stripe.api_version,
        base_addresses={"api": api_base} if api_base else None,
        max_network_retries=2,
        http_client=stripe.RequestsClient(timeout=TIMEOUT_SECONDS),
    )


@contextmanager
def _translated() -> Iterator[None]:
    """Turn the SDK's errors into ours. The SDK has already repeated what it may, but for rate limits."""
    try:
        yield
    except (stripe.APIConnectionError, stripe.RateLimitError) as error:
        raise TemporaryFailure(_sentence(error)) from error
    except (stripe.InvalidRequestError, stripe.CardError) as error:
        raise Refused(_sentence(error), code=error.code or "", param=error.param or "") from error
    except stripe.IdempotencyError as error:
        # Another worker is making this very call: it will have an answer shortly.
        if error.http_status == 409:
            raise TemporaryFailure(_sentence(error)) from error
        raise Refused(_sentence(error), code="idempotency_error") from error
    except (stripe.AuthenticationError, stripe.PermissionError) as error:
        raise Refused(_sentence(error), code="not_permitted") from error
    except stripe.APIError as error:
        raise TemporaryFailure(_sentence(error)) from error


def _sentence(error: stripe.StripeError) -> str:
    return f"{type(error).__name__}: {error.user_message or error}"


def _metadata(thing: Any) -> dict[str, str]:
    metadata = getattr(thing, "metadata", None)
    return metadata.to_dict() if metadata else {}


def _remote_invoice(invoice: Any) -> RemoteInvoice:
    transitions = getattr(invoice, "status_transitions", None)
    paid_at = getattr(transitions, "paid_at", None)
    return RemoteInvoice(
        id=invoice.id,
        status=invoice.status or "",
        currency=invoice.currency.upper(),
        total=invoice.total,
        amount_paid=invoice.amount_paid,
        amount_due=invoice.amount_due,
        hosted_url=getattr(invoice, "hosted_invoice_url", None) or "",
        metadata=_metadata(invoice),
        has_discounts=bool(getattr(invoice, "discounts", None)),
        paid_at=datetime.fromtimestamp(paid_at, UTC) if paid_at else None,
    )


def _remote_checkout(session: Any) -> RemoteCheckout:
    intent = getattr(session, "payment_intent", None)
    return RemoteCheckout(
        id=session.id,
        url=getattr(session, "url", None) or "",
        status=session.status or "",
        payment_status=session.payment_status,
        amount=session.amount_total or 0,
        currency=(session.currency or "").upper(),
        purchase=_metadata(session).get("kilotoken_purchase", ""),
        payment_intent=str(getattr(intent, "id", None) or intent or ""),
        has_failed=getattr(intent, "status", "") in ("requires_payment_method", "canceled"),
    )


def _remote_event(event: Any) -> RemoteEvent:
    # The SDK turns some texts into Decimals; JSON has none.
    payload = json.loads(json.dumps(event.to_dict(), default=str))
    about = payload.get("data", {}).get("object", {})
    return RemoteEvent(
        id=event.id,
        type=event.type,
        created_at=datetime.fromtimestamp(event.created, UTC),
        object_id=str(about.get("id") or ""),
        is_live=bool(event.livemode),
        payload=payload,
    )
