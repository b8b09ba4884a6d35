"""The demo world is the same for the same day, complete after an interruption, and true to the rules."""

from datetime import UTC, datetime
from decimal import Decimal

import pytest
from django.core.management import call_command
from django.db.models import Sum

from accounts.models import Organisation
from billing.bill_checks import check_invoice
from billing.credit_statement import GrantStatus, grant_states
from billing.demo import world
from billing.demo.stories import STORIES
from billing.models import Invoice, Subscription
from billing.prepaid import effective_balance
from metering.aggregation import compare_totals
from metering.limits_page import limit_rows
from metering.models import Event, UsageDay
from metering.seal_checks import check_seals

NOW = datetime(2026, 11, 22, 15, 30, tzinfo=UTC)

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("transactional_db")]


def figures() -> list[tuple[str, str, int]]:
    return list(Invoice.objects.order_by("number").values_list("organisation__slug", "number", "total_minor"))


def test_world_is_complete_and_making_it_again_changes_nothing(settings):
    first = world.create_world(now=NOW)
    before = figures(), Event.objects.count(), UsageDay.objects.aggregate(Sum("value"))
    second = world.create_world(now=NOW)
    assert (figures(), Event.objects.count(), UsageDay.objects.aggregate(Sum("value"))) == before
    assert first.events == Event.objects.count() > 10_000
    assert second.events == 0
    assert {slug for slug, _, _ in figures()} == {story.slug for story in STORIES}
    assert Subscription.objects.current().count() == len(STORIES)
    assert list(compare_totals()) == []
    for organisation in Organisation.objects.all():
        assert check_seals(organisation, now=NOW).findings == []
    assert [finding for invoice in Invoice.objects.all() for finding in check_invoice(invoice)] == []
    credit = {state.grant.reason: state for state in grant_states(Organisation.objects.get(slug="northwind"), NOW)}
    assert 0 < credit["Cached prompts, on us"].left < credit["Cached prompts, on us"].grant.amount
    assert credit["A month of images to try"].status == GrantStatus.EXPIRED
    kite = effective_balance(Organisation.objects.get(slug="kite"), "USD", NOW)
    assert kite.is_prepaid
    assert 0 < kite.effective < kite.booked / 4


def test_lumen_had_a_trial_a_coupon_and_another_plan_before(settings):
    world.create_world(now=NOW)
    lumen = Subscription.objects.get(organisation__slug="lumen")
    (first,) = Invoice.objects.filter(subscription=lumen)

    held = first.evidence["periods"][0]["plans"]
    assert [(one["plan"], one.get("nothing_charged", "")) for one in held] == [
        ("pay-as-you-go", "trial"),
        ("pay-as-you-go", ""),
        ("team", ""),
    ]
    assert [line.description for line in first.lines.filter(kind="discount")] == ["Offer to law firms"]
    limits = limit_rows(lumen.organisation, NOW)
    assert [row.what for row in limits] == ["Calls at the same time", "Spend in USD"]
    assert 0 < limits[1].counter.used < limits[1].amount


def test_an_interrupted_making_is_completed(settings, monkeypatch):
    def refuse(*arguments, **options):
        raise KeyboardInterrupt

    with monkeypatch.context() as interrupted:
        interrupted.setattr(world, "close_period", refuse)
        with pytest.raises(KeyboardInterrupt):
            world.create_world(now=NOW)
    made = world.create_world(now=NOW)
    assert len(made.invoices) == 5
    assert all(Decimal(invoice["total_minor"]) > 0 for invoice in made.invoices)


def test_it_is_refused_beside_a_live_key(settings):
    settings.STRIPE_SECRET_KEY = "sk_live_x"
    with pytest.raises(world.LiveKeyConfigured):
        world.create_world(now=NOW)


def test_the_command_leaves_a_note_for_this_user_only(settings, tmp_path, capsys):
    settings.DATA_DIR = tmp_path
    call_command("create_demo_world", "--json")
    note = tmp_path / "demo.json"
    assert note.stat().st_mode & 0o077 == 0
    assert "operator@kilotoken.example" in note.read_text()
