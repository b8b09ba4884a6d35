"""Several meters keep apart what prices ask for; fresh installations keep service tiers apart from the beginning."""

from datetime import UTC, datetime, timedelta
from importlib import import_module

import pytest
from django.apps import apps
from django.urls import reverse

from accounts.models import AuditEntry
from metering.defining import archive_meter
from metering.keeping_apart import context_tier, keep_apart
from metering.models import Meter, MeterRevision
from metering.reports import UsageFilter, usage
from tests.metering.usage_world import event, fold_all, send

pytestmark = pytest.mark.django_db

NOW = datetime(2026, 11, 15, 12, 0, tzinfo=UTC)
SOON = datetime(2026, 11, 15, 13, 15, tzinfo=UTC)
TOKENS = ("input_tokens", "cache_write_tokens", "output_tokens")


def by(organisation, name, key="input_tokens"):
    span = {"start": NOW - timedelta(days=1), "end": NOW + timedelta(days=1), "granularity": "total"}
    report = usage(organisation, **span, group_by=(name,), filters=UsageFilter(meters=(key,)))
    return {row.group[0]: row.value for row in report.rows}


def test_fresh_installations_keep_service_tiers_apart(acme):
    subject = acme.public_id
    send(event(subject, NOW, input_tokens=5), event(subject, NOW, input_tokens=7, service_tier="batch"), now=NOW)
    fold_all(NOW)
    assert by(acme, "service_tier") == {"": 5, "batch": 7}
    assert by(acme, "service_tier", "requests") == {"": 1, "batch": 1}


def test_installations_that_have_counted_do_so_from_a_later_quarter_hour_on(acme, time_machine):
    time_machine.move_to(NOW, tick=False)
    Meter.objects.update(dimensions=["model"])
    Meter.objects.filter(key="requests").update(dimensions=["model", "region"])
    send(event(acme.public_id, NOW, input_tokens=5), now=NOW)

    import_module("metering.migrations.0024_genai_service_tier").keep_service_tiers(apps, None)

    assert set(Meter.objects.values_list("dimensions__len", flat=True)) == {1, 2}
    assert not MeterRevision.objects.filter(meter__key="requests").exists()
    revision = MeterRevision.objects.get(meter__key="input_tokens")
    assert (revision.dimensions, revision.effective_from) == (["model", "service_tier"], SOON)
    assert MeterRevision.objects.count() == Meter.objects.count() - 1


def test_several_meters_keep_lengths_and_lifetimes_apart_from_one_instant_on(acme, operator):
    meters = list(Meter.objects.filter(key__in=TOKENS))
    made = keep_apart(meters, names=["cache_ttl"], context_bounds=[200_000], now=NOW, actor=operator)
    assert {revision.effective_from for revision in made} == {SOON}
    assert {tuple(one.dimensions) for one in made} == {("model", "service_tier", "cache_ttl")}
    assert keep_apart(meters, names=["cache_ttl"], context_bounds=[200_000], now=NOW, actor=operator) == []
    assert AuditEntry.objects.filter(action="meter.revised", actor=operator).count() == 3

    at, subject = SOON + timedelta(minutes=1), acme.public_id
    send(
        event(subject, at, input_tokens=150_000, cache_read_tokens=60_000),
        event(subject, at, input_tokens=7, cache_write_tokens=3, cache_ttl="1h"),
        now=at,
    )
    fold_all(at)
    assert by(acme, "context_tier") == {"0": 7, "200000": 150_000}
    assert by(acme, "cache_ttl", "cache_write_tokens") == {"1h": 3}


def test_a_context_is_cut_where_it_is_asked_to_be():
    assert context_tier([200_000, 128_000, 200_000])["steps"] == [
        {"up_to": "128000", "label": "0"},
        {"up_to": "200000", "label": "128000"},
        {"label": "200000"},
    ]


def test_archived_meters_stay_as_they_are(operator):
    meter = Meter.objects.get(key="requests")
    archive_meter(meter, now=NOW, actor=operator)
    meter.refresh_from_db()
    assert keep_apart([meter], names=["region"], now=NOW, actor=operator) == []


def test_operators_choose_it_for_the_meters_they_have_selected(client_for, operator):
    client, pks = client_for(operator), list(Meter.objects.filter(key__in=TOKENS).values_list("pk", flat=True))
    chosen = {"action": "keep_apart_selected", "_selected_action": pks}
    address = reverse("admin:metering_meter_changelist")
    assert "Output tokens" in client.post(address, chosen).content.decode()
    nothing = client.post(address, chosen | {"keep": "yes"}).content.decode()
    assert "Choose something to keep apart" in nothing
    wrong = client.post(address, chosen | {"keep": "yes", "context": "many, 0"}).content.decode()
    assert "whole numbers of tokens" in wrong
    assert not MeterRevision.objects.exists()
    done = client.post(address, chosen | {"keep": "yes", "region": "on", "context": "128000, 200000"}, follow=True)
    assert "3 meters keep it apart from" in done.content.decode()
    assert set(MeterRevision.objects.values_list("dimensions", flat=True).distinct()[0]) == {
        "model",
        "service_tier",
        "region",
    }
