"""Prepaid credit that runs low: told once for each level and top-up, in words of credit, and when there is more."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from decimal import Decimal

import pytest
import time_machine
from django.core import mail

from billing.credit_alerts import watch_credit
from billing.crediting import expire_grants, grant_credit
from billing.invoicing import close_period
from billing.models import CreditGrant, Subscription
from billing.prepaid import agree_prepaid, end_prepaid, tell_limits
from metering import alerts
from metering.alerting import payload, send_due
from metering.models import Alert, AlertMessage, AlertSettings
from tests.billing.billing_builders import at, payg, price, subscribed, use

NOW = at(2026, 10, 5, 12)
# A dollar's worth.
DOLLAR = 1_000_000


@pytest.fixture(autouse=True)
def _clock() -> Iterator[None]:
    with time_machine.travel(NOW, tick=False):
        yield


@pytest.fixture
def subscription(globex) -> Subscription:
    """Prepaid, with $20."""
    price("output_tokens", "1.00")
    made = subscribed(globex, payg(), anchor=at(2026, 10))
    credit(globex, "20")
    agree_prepaid(globex, overdraft=Decimal(0), now=NOW, actor="test")
    return made


def credit(organisation, amount: str, now: datetime = NOW, **changes) -> CreditGrant:
    terms = {"kind": "purchased", "currency": "USD", "reason": "Top-up"} | changes
    return grant_credit(organisation, amount=Decimal(amount), now=now, **terms)


def spend(organisation, dollars: str, when: datetime = NOW) -> None:
    use(organisation, when, output_tokens=int(Decimal(dollars) * DOLLAR))
    tell_limits(when)


def told(now: datetime = NOW) -> list[str]:
    """What is told now, recoveries marked."""
    watch_credit(now)
    rows = AlertMessage.objects.filter(created_at__gte=now, sent_at=None, channel="email").order_by("pk")
    found = [f"{'Over: ' if row.is_recovery else ''}{row.alert.text}" for row in rows.select_related("alert")]
    rows.update(sent_at=now)
    return found


def test_each_level_is_told_once_in_words_of_credit(globex, subscription):
    spend(globex, "15.99")
    assert told() == []
    spend(globex, "0.01")
    assert told() == [
        "Your prepaid credit runs low: $4.00 of $20.00 is left. "
        "At the pace of this period your credit will last about 1 day."
    ]
    assert told() == []
    spend(globex, "3.5")
    assert told() == [
        "Your prepaid credit is almost used up: $0.50 of $20.00 is left. "
        "At the pace of this period your credit will last less than a day."
    ]
    spend(globex, "0.5")
    assert told() == ["Your prepaid credit is used up. Calls are refused until there is more."]
    spend(globex, "5")
    assert told() == []


def test_a_fall_through_all_levels_is_told_once(globex, subscription):
    spend(globex, "20")
    assert told() == ["Your prepaid credit is used up. Calls are refused until there is more."]
    assert Alert.objects.count() == 1


def test_more_credit_ends_it_and_it_is_told_anew(globex, subscription):
    spend(globex, "20")
    told()
    later = NOW + timedelta(hours=1)
    credit(globex, "10", later)
    with time_machine.travel(later, tick=False):
        assert told(later) == ["Over: Your prepaid credit is used up. Calls are refused until there is more."]
        assert told(later) == []
        spend(globex, "9.9", later)
        assert told(later)[0].startswith("Your prepaid credit is almost used up: $0.10 of $30.00 is left.")


def test_too_little_more_ends_nothing_and_tells_nothing(globex, subscription):
    spend(globex, "19")
    assert len(told()) == 1
    later = NOW + timedelta(hours=1)
    credit(globex, "0.01", later)
    with time_machine.travel(later, tick=False):
        assert told(later) == []


def test_a_little_more_lets_calls_run_and_is_still_little(globex, subscription):
    spend(globex, "20")
    told()
    later = NOW + timedelta(hours=1)
    credit(globex, "0.5", later)
    with time_machine.travel(later, tick=False):
        assert told(later) == ["Over: Your prepaid credit is used up. Calls are refused until there is more."]
    later += timedelta(minutes=1)
    with time_machine.travel(later, tick=False):
        assert told(later)[0].startswith("Your prepaid credit is almost used up: $0.50 of $20.50 is left.")
        assert told(later) == []


def test_an_overdraft_begins_where_credit_ends(globex, subscription):
    agree_prepaid(globex, overdraft=Decimal(5), now=NOW, actor="test")
    spend(globex, "16")
    assert told()[0].startswith("Your prepaid credit runs low: $4.00 of $20.00")
    spend(globex, "4.5")
    assert told() == ["Your prepaid credit is used up. Calls go on until the agreed overdraft of $5.00 is used up too."]


def test_an_invoice_ends_and_repeats_nothing(globex, subscription):
    spend(globex, "17")
    assert len(told()) == 1
    later = at(2026, 11, 1, 2)
    with time_machine.travel(later, tick=False):
        close_period(subscription, now=later)
        tell_limits(later)
        assert told(later) == []


def test_credit_that_expires_runs_low_too(globex, subscription):
    credit(globex, "100", expires_at=NOW + timedelta(days=1))
    spend(globex, "100")
    assert told()[0].startswith("Your prepaid credit runs low: $20.00 of $120.00")
    later = NOW + timedelta(days=2)
    expire_grants(later)
    tell_limits(later)
    with time_machine.travel(later, tick=False):
        assert told(later) == []


def test_who_is_no_longer_prepaid_is_told_that_it_is_over(globex, subscription):
    spend(globex, "20")
    told()
    end_prepaid(globex, now=NOW, actor="test")
    later = NOW + timedelta(hours=1)
    with time_machine.travel(later, tick=False):
        assert told(later) == ["Over: Your prepaid credit is used up. Calls are refused until there is more."]


def test_limits_stay_silent_about_credit(globex, subscription):
    spend(globex, "20")
    alerts.watch(NOW)
    assert not Alert.objects.exclude(kind="credit").exists()


def test_it_goes_out_by_e_mail_with_the_way_to_the_credit_and_by_webhook(globex, gus, subscription):
    AlertSettings.objects.create(organisation=globex, webhook_url="https://hooks.example/alerts")
    spend(globex, "16")
    watch_credit(NOW)
    AlertMessage.objects.filter(channel="webhook").update(next_try_at=NOW + timedelta(days=1))
    send_due(NOW)
    [message] = [one for one in mail.outbox if one.to == [gus.email]]
    assert "/o/globex/credits/" in message.body
    hook = AlertMessage.objects.get(channel="webhook")
    data = payload(hook)["data"]
    assert (data["kind"], data["quota"], data["threshold_percent"]) == ("credit", None, 20)
    assert (data["value"], data["amount"]) == ("4", "20")
