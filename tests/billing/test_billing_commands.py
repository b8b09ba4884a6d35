"""subscribe and close_period at a terminal."""

import json
from io import StringIO

import pytest
import time_machine
from django.core.management import CommandError, call_command

from billing.models import Invoice, Subscription
from tests.billing.billing_builders import at, payg, price, use

NOW = at(2026, 11, 22, 18, 7)


@pytest.fixture(autouse=True)
def _at_a_fixed_time():
    with time_machine.travel(NOW, tick=False):
        yield


def run(*arguments: str) -> dict:
    out = StringIO()
    call_command(*arguments, "--json", stdout=out)
    return json.loads(out.getvalue())


def refusal(*arguments: str) -> dict:
    out = StringIO()
    with pytest.raises(CommandError) as raised:
        call_command(*arguments, "--json", stdout=out)
    assert raised.value.returncode == 1
    return json.loads(out.getvalue())["error"]


def test_subscribe_starts_now_or_at_the_anchor(globex, acme):
    payg()

    assert run("subscribe", "--organisation", "globex", "--plan", "payg")["anchor_at"] == "2026-11-22T18:00:00Z"
    asked = run("subscribe", "--organisation", "acme", "--plan", "payg", "--anchor", "2026-10-01T00:00:00Z")
    assert asked["period_start"] == "2026-11-01T01:00:00Z"
    assert Subscription.objects.count() == 2


def test_subscribe_says_what_is_wrong(globex):
    assert refusal("subscribe", "--organisation", "globex", "--plan", "none")["code"] == "unknown_plan"
    assert refusal("subscribe", "--organisation", "nobody", "--plan", "none")["code"] == "unknown_organisation"
    payg()
    run("subscribe", "--organisation", "globex", "--plan", "payg")
    assert refusal("subscribe", "--organisation", "globex", "--plan", "payg")["code"] == "already_subscribed"


def test_close_period_prints_the_invoice_and_prints_it_again(globex):
    payg()
    price("input_tokens", "2.50")
    run("subscribe", "--organisation", "globex", "--plan", "payg", "--anchor", "2026-10-01T00:00:00Z")
    use(globex, at(2026, 10, 5), input_tokens=18_059_974)

    closed = run("close_period", "--organisation", "globex")
    again = run("close_period", "--organisation", "globex", "--period-start", "2026-10-01T00:00:00Z")

    assert closed == again
    assert (closed["total"], closed["total_exact"]) == ("45.15", "45.149935")
    assert closed["lines"][0]["quantity"] == "18059974"
    assert Invoice.objects.count() == 1
    assert refusal("close_period", "--organisation", "globex")["code"] == "period_not_ended"
