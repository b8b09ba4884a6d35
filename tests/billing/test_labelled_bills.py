"""From labelled usage to the bill and its evidence: batches, long contexts, projects, and totals that are no sums."""

from decimal import Decimal

import pytest
import time_machine

from accounts.models import Project
from billing import catalogue, rating
from billing.bill_checks import check_invoice
from billing.event_lines import lines_of_event
from billing.invoicing import close_period, running_bill
from billing.models import Subscription
from billing.price_book import add_price
from billing.project_names import project_of
from billing.schedules import with_terms
from billing.usage_labels import never_met
from metering.event_lookup import look_up_event
from metering.models import Meter
from tests import factories
from tests.billing.billing_builders import LONG_AGO, at, meter, price, subscribed, use
from tests.metering.usage_world import event, fold_all, send

PROMPT = ["input_tokens", "cache_read_tokens", "cache_write_tokens"]
CONTEXT = {"fields": PROMPT, "steps": [{"up_to": "200000", "label": "short"}, {"label": "long"}]}


@pytest.fixture
def _kept_apart(db) -> None:
    Meter.objects.filter(key__in=["input_tokens", "output_tokens"]).update(
        dimensions=["model", "service_tier"], tiers={"context_tier": CONTEXT}
    )


def conditioned(amount: str, **conditions) -> None:
    add_price(
        meter("input_tokens"),
        model="gpt-4o",
        currency="USD",
        amount=Decimal(amount),
        valid_from=LONG_AGO,
        conditions=rating.Conditions(**conditions),
    )


def on_plan(organisation, **card) -> Subscription:
    version = catalogue.draft_version(catalogue.create_plan("custom", name="Custom"), currency="USD")
    catalogue.add_rate_card(version, label="Tokens", **card)
    return subscribed(organisation, catalogue.publish_version(version, now=LONG_AGO), anchor=at(2026, 10))


@pytest.mark.usefixtures("_kept_apart")
def test_batches_and_long_contexts_are_priced_apart_and_the_evidence_says_so(globex):
    price("input_tokens", "2", model="gpt-4o")
    conditioned("1", service_tier="batch")
    conditioned("4", context_above=200_000)
    subscription = on_plan(globex, meters=["input_tokens"])
    use(globex, at(2026, 10, 3), input_tokens=100_000)
    use(globex, at(2026, 10, 3), input_tokens=200_000)
    use(globex, at(2026, 10, 3), input_tokens=200_001)
    use(globex, at(2026, 10, 4), input_tokens=500_000, service_tier="batch")

    invoice = close_period(subscription, now=at(2026, 11, 2))

    assert [(line.description, line.quantity, line.amount_exact) for line in invoice.lines.all()] == [
        ("gpt-4o, input tokens", 300_000, Decimal("0.6")),
        ("gpt-4o, input tokens, context above 200,000 tokens", 200_001, Decimal("0.800004")),
        ("gpt-4o, input tokens, batch", 500_000, Decimal("0.5")),
    ]
    readings = invoice.evidence["periods"][0]["readings"]
    assert {"service_tier": "batch", "context_tier": "200000"} in [reading.get("labels") for reading in readings]
    assert {row.get("conditions") for row in invoice.evidence["periods"][0]["prices"]} == {
        None,
        "batch",
        "context above 200,000 tokens",
    }
    assert check_invoice(invoice) == []


@pytest.fixture
def of_projects(globex) -> Subscription:
    """Two projects with lines of their own, a dollar each."""
    price("input_tokens", "2", model="gpt-4o")
    subscription = on_plan(globex, meters=["input_tokens"], split_by=["project"])
    for name in ("Search", "Chat"):
        key = factories.api_key(globex, name, project=factories.project(globex, name))
        when = at(2026, 10, 3)
        send(event(key.api_key.public_id, when, model="gpt-4o", input_tokens=500_000), now=when)
    fold_all(at(2026, 10, 4))
    return subscription


def test_projects_have_lines_of_their_own_that_say_their_names(of_projects):
    lines = running_bill(of_projects, at(2026, 10, 20)).lines
    assert sorted((line.description, line.amount_exact) for line in lines) == [
        ("gpt-4o, input tokens, project Chat", 1),
        ("gpt-4o, input tokens, project Search", 1),
    ]


def test_an_invoice_keeps_the_name_of_its_time_and_late_usage_the_name_of_today(client_for, gus, globex, of_projects):
    invoice = close_period(of_projects, now=at(2026, 11, 1, 2))
    chat = Project.objects.get(name="Chat")
    chat.name = "Talk"
    chat.save()
    late = event(chat.api_keys.get().public_id, at(2026, 10, 30), model="gpt-4o", input_tokens=500_000)
    send(late, now=at(2026, 11, 2))
    fold_all(at(2026, 11, 2))

    page = client_for(gus).get(f"/o/globex/invoices/{invoice.number}/").content.decode()
    (adjusted,) = running_bill(with_terms(of_projects), at(2026, 11, 3)).lines

    assert "<small>project Chat</small>" in page
    assert "proj_" not in page
    assert adjusted.description.endswith("gpt-4o, input tokens, project Talk")
    assert project_of(adjusted) == chat.public_id


def test_the_api_gives_a_lines_project_by_id_and_name(api, globex, of_projects):
    client, chat = api(factories.access_token(globex).secret), Project.objects.get(name="Chat")
    with time_machine.travel(at(2026, 10, 20), tick=False):
        running = client.get("/v1/bill").json()["lines"]
    invoice = close_period(of_projects, now=at(2026, 11, 1, 2))
    closed = client.get(f"/v1/invoices/{invoice.number}").json()["lines"]

    assert {"id": chat.public_id, "name": "Chat"} in [line["project"] for line in running]
    assert [line["project"] for line in closed] == [line["project"] for line in running]


def test_a_model_that_is_called_like_a_project_is_of_none(globex):
    price("input_tokens", "2")
    subscription = on_plan(globex, meters=["input_tokens"])
    use(globex, at(2026, 10, 3), f"x:project={Project.objects.get(organisation=globex).public_id}", input_tokens=5)

    (line,) = running_bill(subscription, at(2026, 10, 20)).lines

    assert project_of(line) == ""


def test_a_count_of_different_users_is_charged_per_user_of_the_month(globex):
    users = Meter.objects.create(
        key="users",
        name="Users",
        event_type="ai.usage",
        value_field="user",
        aggregation="unique_count",
        unit="users",
        display_scale=Decimal(1),
    )
    version = catalogue.draft_version(catalogue.create_plan("seats", name="Seats"), currency="USD")
    catalogue.add_per_unit(version, label="Users", meter=users, unit_price=Decimal(5))
    catalogue.add_rate_card(version, label="Tokens")
    subscription = subscribed(globex, catalogue.publish_version(version, now=LONG_AGO), anchor=at(2026, 10))
    price("input_tokens", "2", model="gpt-4o")
    price("input_tokens", "3", model="gpt-4o")
    for day, user in ((3, "ann"), (4, "bob"), (20, "ann")):
        use(globex, at(2026, 10, day), input_tokens=1_000, user=user)

    invoice = close_period(subscription, now=at(2026, 11, 2))

    line = invoice.lines.get(description="Users")
    assert (line.quantity, line.amount_exact) == (2, 10)


@pytest.mark.usefixtures("_kept_apart")
def test_an_event_names_the_line_of_its_service_tier(globex):
    price("input_tokens", "2", model="gpt-4o")
    conditioned("1", service_tier="batch")
    on_plan(globex, meters=["input_tokens"])
    for name, more in (("now", {}), ("later", {"service_tier": "batch"})):
        when = at(2026, 10, 3)
        send(event(globex.public_id, when, event_id=name, model="gpt-4o", input_tokens=5, **more), now=when)
        fold_all(when)

    found = {
        name: lines_of_event(
            globex, look_up_event(globex, source="gateway", event_id=name).acceptance, at(2026, 10, 20)
        )[0].description
        for name in ("now", "later")
    }

    assert found == {"now": "gpt-4o, input tokens", "later": "gpt-4o, input tokens, batch"}


@pytest.mark.django_db
def test_conditions_that_usage_never_meets_are_told():
    tokens = meter("input_tokens")
    assert never_met(tokens, rating.Conditions(service_tier="batch")) == []
    assert never_met(tokens, rating.Conditions(region="eu")) == [
        "Input tokens are not kept apart by region: add it to the meter."
    ]
    tokens.tiers = {"context_tier": CONTEXT}
    assert never_met(tokens, rating.Conditions(context_above=200_000)) == []
    assert never_met(tokens, rating.Conditions(context_above=128_000)) == [
        "No context tier of input tokens ends at 128,000 tokens."
    ]
