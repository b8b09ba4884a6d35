"""The e-mail about a new invoice: once, and again only when it did not go out."""

from datetime import timedelta

import pytest
from django.core import mail
from django.core.mail.backends.base import BaseEmailBackend

from billing.announcing import announce_due, announce_invoice
from billing.invoicing import close_period
from billing.models import InvoiceEmail
from tests.billing.billing_builders import at, payg, price, subscribed, use

NOW = at(2026, 11, 1, 2)


class RefusingBackend(BaseEmailBackend):
    """A mail server that takes nothing."""

    def send_messages(self, messages):
        raise ConnectionRefusedError("no mail server")


@pytest.fixture
def invoice(globex):
    price("input_tokens", "2.50")
    subscription = subscribed(globex, payg(), anchor=at(2026, 10))
    use(globex, at(2026, 10, 12), input_tokens=18_059_974)
    return close_period(subscription, now=NOW)


def test_message_carries_number_total_and_the_way_to_the_invoice(invoice, gus):
    assert announce_due(now=NOW) == 1

    (message,) = mail.outbox
    assert message.to == [gus.email]
    assert message.subject == "Invoice KT-2026-00001: $45.15"
    (html, _) = message.alternatives[0]
    for text in (message.body, html):
        assert "/o/globex/invoices/KT-2026-00001/" in text
        assert "$45.15" in text
        assert "1 – 31 October 2026" in text
    assert "<" not in message.body


def test_it_is_sent_once(invoice, gus):
    assert [announce_invoice(invoice.pk, now=NOW), announce_invoice(invoice.pk, now=NOW)] == [True, False]
    assert announce_due(now=NOW + timedelta(days=1)) == 0
    assert len(mail.outbox) == 1
    assert InvoiceEmail.objects.get().sent_to == gus.email


def test_refused_message_is_tried_again_later(invoice, settings):
    settings.MAILERS = {"default": {"BACKEND": f"{__name__}.RefusingBackend"}}
    assert announce_due(now=NOW) == 0
    email = InvoiceEmail.objects.get()
    assert (email.sent_at, email.last_error) == (None, "no mail server")

    settings.MAILERS = {"default": {"BACKEND": "django.core.mail.backends.locmem.EmailBackend"}}
    assert announce_due(now=NOW + timedelta(minutes=9)) == 0
    assert announce_due(now=NOW + timedelta(minutes=10)) == 1
