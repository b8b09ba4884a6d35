"""The admin's first page says at a glance what needs a person."""

from datetime import timedelta

import pytest
from django.utils import timezone

from billing.cockpit import cockpit
from metering.models import RejectedEvent, TotalsCheck

pytestmark = pytest.mark.django_db


def gauge(label: str):
    found = cockpit()
    return next(gauge for gauge in (*found.usage, *found.money) if gauge.label == label)


def test_a_quiet_installation_asks_for_nothing(operator, client_for):
    page = client_for(operator).get("/admin/").content.decode()
    assert "None waits to be closed." in page
    assert 'class="gauge bad"' not in page
    assert 'class="gauge warn"' not in page


def test_rejected_events_and_differences_stand_out(operator):
    RejectedEvent.objects.create(reason="conflict", detail="", body="{}", digest="1" * 64, format="test")
    now = timezone.now()
    TotalsCheck.objects.create(started_at=now, finished_at=now, differences=2)
    assert (gauge("Rejected events").value, gauge("Rejected events").mood) == ("1", "warn")
    assert (gauge("Totals against events").value, gauge("Totals against events").mood) == ("2 differences", "bad")


def test_every_list_named_exists(operator, client_for):
    browser = client_for(operator)
    page = browser.get("/admin/").content.decode()
    links = {part.split('"')[0] for part in page.split('href="/admin/')[1:]}
    assert len(links) > 15
    for link in links - {"logout/"}:
        assert browser.get(f"/admin/{link}").status_code in {200, 302}, link


def test_customers_do_not_enter(olivia, client_for):
    assert client_for(olivia).get("/admin/").status_code == 302


def test_a_comparison_that_was_missed_is_noticed(db):
    now = timezone.now()
    for finished_at, mood in ((now - timedelta(hours=20), "good"), (now - timedelta(hours=40), "warn")):
        TotalsCheck.objects.all().delete()
        TotalsCheck.objects.create(started_at=finished_at, finished_at=finished_at, differences=0)
        gauge = next(one for one in cockpit(now).usage if one.label == "Totals against events")
        assert (gauge.value, gauge.mood) == ("equal", mood)
        assert ("not since" in gauge.note) is (mood == "warn")
