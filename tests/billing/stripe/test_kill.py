"""Killing the worker between any two calls: one invoice at Stripe, with the right lines, once the push is run again."""

import os
import signal
import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path

import pytest
from django.db import connection
from django.utils import timezone

from billing.models import StripeCustomer, StripeInvoice
from billing.models.stripe_mirror import PushState
from billing.stripe_sync import push_invoice
from tests.billing.stripe.test_push import at_stripe, lines_at_stripe

pytestmark = pytest.mark.django_db(transaction=True)

ROOT = Path(__file__).resolve().parents[3]
CALLS = 10


@pytest.mark.parametrize("later", [timedelta(seconds=30), timedelta(hours=25)], ids=["at once", "after a day"])
def test_killed_at_any_call_one_invoice_with_the_right_lines(sandbox, finalised_invoice, later):
    """Killed when Stripe has done what was asked and nobody heard; dying before is tested by faults in test_push."""
    for calls_before in range(CALLS):
        sandbox.post_control("reset")
        invoice = finalised_invoice(amounts=[300, 200])
        sandbox.post_control("faults", match="/v1/", kind="slow-answer", skip=calls_before, times=1, seconds=3600)
        _push_until_killed(sandbox)
        sandbox.post_control("clock", advance=later.total_seconds())

        push = _pushed(invoice.pk, later)

        assert [remote["total"] for remote in at_stripe(sandbox, "invoice")] == [500]
        assert sorted(lines_at_stripe(sandbox, push.stripe_id)) == [200, 300]
        assert len(at_stripe(sandbox, "customer")) == 1
        assert [event["type"] for event in at_stripe(sandbox, "event")].count("invoice.sent") == 1
        StripeCustomer.objects.all().delete()


def _pushed(invoice_id: int, later: timedelta) -> StripeInvoice:
    """The next sweeps; the server needs a moment to notice that the dead worker's lock is free."""
    _wait_for(lambda: push_invoice(invoice_id, now=timezone.now() + later).state == PushState.PUSHED, seconds=5)
    return StripeInvoice.objects.get(pk=invoice_id)


def _push_until_killed(sandbox) -> None:
    """Start a worker of its own and kill it without warning once its call meets the fault."""
    database = connection.settings_dict
    environment = {
        **os.environ,
        "DATABASE_URL": f"postgresql://{database['USER']}@/{database['NAME']}?host={database['HOST']}",
        "STRIPE_SECRET_KEY": "sk_test_kilotoken",
        "STRIPE_API_BASE": sandbox.url,
    }
    worker = subprocess.Popen(
        [sys.executable, str(ROOT / "manage.py"), "push_invoices", "--json"],
        env=environment,
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        _wait_for(lambda: not any(fault.times for fault in sandbox.account.faults) or worker.poll() is not None)
    finally:
        worker.send_signal(signal.SIGKILL)
        worker.wait()
    assert worker.returncode == -signal.SIGKILL, "the worker ended before it could be killed"


def _wait_for(condition, seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)
