"""GET /v1/event-lines: which line of which bill an event feeds."""

from datetime import timedelta
from decimal import Decimal

import pytest
import time_machine

from accounts.models import Scope
from billing import catalogue, rating
from billing.invoicing import close_period
from billing.price_book import add_price
from billing.subscribing import change_plan
from metering.models import Meter
from tests import factories
from tests.billing.billing_builders import LONG_AGO, at, meter, payg, price, subscribed
from tests.metering.usage_world import correction, event, fold_all, send

NOW = at(2026, 10, 20)


@pytest.fixture
def world(globex):
    """September closed; one event in time, one late, one of October; one that was voided."""
    price("input_tokens", "1.00")
    subscription = subscribed(globex, payg(), anchor=at(2026, 9))
    take(globex, "in-time", at(2026, 9, 3), at(2026, 9, 3))
    invoice = close_period(subscription, now=at(2026, 10, 1, 2))
    take(globex, "late", at(2026, 9, 30), at(2026, 10, 5))
    take(globex, "october", at(2026, 10, 6), at(2026, 10, 6))
    take(globex, "voided", at(2026, 10, 6), at(2026, 10, 6))
    send(correction(globex.public_id, "voided", at(2026, 10, 7)), now=at(2026, 10, 7))
    fold_all(at(2026, 10, 7))
    return invoice


def take(organisation, name, when, now):
    send(event(organisation.public_id, when, event_id=name, model="gpt-4o", input_tokens=1_000_000), now=now)
    fold_all(now)


@pytest.fixture
def ask(api, globex):
    def get(name, code=200, secret=None):
        with time_machine.travel(NOW, tick=False):
            client = api(secret or factories.access_token(globex).secret)
            answer = client.get("/v1/event-lines", {"source": "gateway", "id": name})
        assert answer.status_code == code, answer.content
        return answer.json()

    return get


def test_an_event_names_the_line_that_charges_it(ask, world):
    [invoiced] = ask("in-time")
    assert (invoiced["meter"], invoiced["invoice"], invoiced["kind"]) == ("input_tokens", world.number, "usage")
    [late] = ask("late")
    assert (late["invoice"], late["kind"], late["period_start"]) == (None, "adjustment", "2026-09-01T00:00:00Z")
    [running] = ask("october")
    assert (running["invoice"], running["kind"], running["period_start"]) == (None, "usage", "2026-10-01T00:00:00Z")


def test_what_does_not_count_feeds_no_line(ask, world):
    assert ask("voided") == []


def test_other_events_do_not_exist(ask, world, acme):
    assert ask("none", code=404)["code"] == "unknown_event"
    assert ask("", code=404)["code"] == "unknown_event"
    ask("in-time", code=404, secret=factories.access_token(acme).secret)
    ask("in-time", code=403, secret=factories.access_token(acme, scopes=[Scope.USAGE_READ]).secret)


# --- Peak and off-peak ------------------------------------------------------------------------------------------------

PEAK, NIGHT = at(2026, 9, 3, 10), at(2026, 9, 3, 22)


@pytest.fixture
def windows(globex):
    """Two prices of one meter, one of them in weekday windows; an event in each, in a closed and a running period."""
    price("input_tokens", "1.00")
    add_price(meter("input_tokens"), model="", currency="USD", amount=Decimal(3), valid_from=LONG_AGO, windows=WINDOWS)
    subscription = subscribed(globex, payg(), anchor=at(2026, 9))
    for name, when in (("peak", PEAK), ("night", NIGHT)):
        take(globex, name, when, when)
    close_period(subscription, now=at(2026, 10, 1, 2))
    for name, when in (("peak", PEAK), ("night", NIGHT)):
        take(globex, f"late {name}", when + timedelta(days=1), at(2026, 10, 3))
        take(globex, f"running {name}", when + timedelta(days=29), when + timedelta(days=29))
    return subscription


WINDOWS = "Mon-Fri 08:00-20:00 UTC"


@pytest.mark.parametrize("state", ["", "late ", "running "])
def test_the_line_is_that_of_the_hour(ask, windows, state):
    for name, is_peak in (("peak", True), ("night", False)):
        [line] = ask(state + name)
        assert (WINDOWS in line["description"]) is is_peak, (state, name, line)


def test_a_price_added_since_does_not_move_an_invoiced_event(ask, windows):
    for text in ("", WINDOWS):
        add_price(meter("input_tokens"), model="", currency="USD", amount=Decimal(9), valid_from=LONG_AGO, windows=text)
    for name, is_peak in (("peak", True), ("night", False)):
        [line] = ask(name)
        assert line["invoice"]
        assert (WINDOWS in line["description"]) is is_peak


def test_of_lines_for_several_service_tiers_it_is_the_events_own(ask, globex):
    Meter.objects.filter(key="input_tokens").update(dimensions=["model", "service_tier"])
    price("input_tokens", "2.00")
    batch = rating.Conditions(service_tier="batch")
    terms = {"model": "", "currency": "USD", "amount": Decimal(1), "valid_from": LONG_AGO, "conditions": batch}
    add_price(meter("input_tokens"), **terms)
    subscribed(globex, payg(), anchor=at(2026, 10))
    for name, tier in (("usual", {}), ("batch", {"service_tier": "batch"})):
        when = at(2026, 10, 6)
        send(event(globex.public_id, when, event_id=name, model="gpt-4o", input_tokens=1_000_000, **tier), now=when)
    fold_all(at(2026, 10, 7))
    assert [ask(name)[0]["description"] for name in ("usual", "batch")] == [
        "gpt-4o, input tokens",
        "gpt-4o, input tokens, batch",
    ]


def test_the_path_names_the_lines_for_whoever_may_read_bills(api, globex, world):
    with time_machine.travel(NOW, tick=False):
        secret = factories.access_token(globex).secret
        facts = api(secret).get("/v1/events/gateway/october").json()
        assert (facts["verdict"], len(facts["acceptance"]["feeds"])) == ("accepted", 2)
        assert [line["meter"] for line in facts["bill_lines"]] == ["input_tokens"]
        reader = factories.access_token(globex, scopes=[Scope.USAGE_READ]).secret
        assert api(reader).get("/v1/events/gateway/october").json()["bill_lines"] is None
        clerk = factories.access_token(globex, scopes=[Scope.BILLING_READ]).secret
        assert api(clerk).get("/v1/events/gateway/october").json()["code"] == "missing_scope"


@pytest.mark.parametrize("is_closed", [False, True])
def test_of_lines_for_several_projects_it_is_the_events_own(ask, globex, is_closed):
    """Also where another plan took over in the period, whose lines are named after that instant."""
    price("input_tokens", "2.00")
    for key in ("first", "second"):
        draft = catalogue.draft_version(catalogue.create_plan(key, name=key.title(), is_public=True), currency="USD")
        catalogue.add_rate_card(draft, label="Tokens", meters=["input_tokens"], split_by=["project"])
        catalogue.publish_version(draft, now=LONG_AGO)
    subscription = subscribed(globex, catalogue.newest_version("first"), anchor=at(2026, 9))
    change_plan(subscription, catalogue.newest_version("second"), now=at(2026, 9, 10), at_once=True)
    when, names = at(2026, 9, 12), ("Search", "Chat", "Robots")
    for name in names:
        key = factories.api_key(globex, name, project=factories.project(globex, name)).api_key
        send(event(key.public_id, when, event_id=name, model="gpt-4o", input_tokens=1_000_000), now=when)
    fold_all(at(2026, 9, 13))
    if is_closed:
        close_period(subscription, now=at(2026, 10, 1, 2))

    for name in names:
        [line] = ask(name)
        assert (f"project {name}" in line["description"], bool(line["invoice"])) == (True, is_closed), line
