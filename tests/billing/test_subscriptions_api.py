"""/v1/subscriptions and /v1/coupons."""

from decimal import Decimal

import pytest
import time_machine

from accounts.models import AuditEntry, Scope
from billing.couponing import save_coupon
from billing.invoicing import close_period
from billing.models import Coupon, Subscription
from tests import factories
from tests.billing.billing_builders import at, payg, price, subscribed, team, use

NOW = at(2026, 11, 16)
ACTS = ["change", "change-withdrawal", "pause", "resume", "cancel", "reactivate", "trial", "coupons"]
PREVIEWS = ["change-preview", "cancel-preview"]
BODIES = {"change": {"plan": "team"}, "trial": {"ends_at": "2026-12-01T00:00:00Z"}, "coupons": {"code": "LAUNCH"}}


@pytest.fixture(autouse=True)
def _now():
    with time_machine.travel(NOW, tick=False):
        yield


@pytest.fixture
def subscription(globex) -> Subscription:
    """Globex pays as it goes, in UTC from the first of November on; ten dollars so far. There is a plan with a fee."""
    price("input_tokens", "1.00")
    team(fee="30")
    subscription = subscribed(globex, payg(), anchor=at(2026, 11))
    use(globex, at(2026, 11, 5), input_tokens=10_000_000)
    return subscription


@pytest.fixture
def operator_api(api, service_token):
    return api(service_token.secret)


def ask(client, subscription, act, body=None, **options):
    address = f"/v1/subscriptions/{subscription.public_id}/{act}?organisation=globex"
    return client.post(address, BODIES.get(act, {}) if body is None else body, **options)


def coupon(code="LAUNCH", **more):
    return save_coupon(Coupon(code=code, name="Launch offer", percent=Decimal(20), **more))


def test_subscription_is_shown_with_plan_periods_and_anchor(api, globex, subscription):
    shown = api(factories.access_token(globex).secret).get(f"/v1/subscriptions/{subscription.public_id}").json()

    assert (shown["state"], shown["plan"], shown["version"]) == ("active", "payg", 1)
    assert shown["anchor_at"] == "2026-11-01T00:00:00Z"
    assert shown["current_period"] == {"start": "2026-11-01T00:00:00Z", "end": "2026-12-01T00:00:00Z"}
    assert shown["next_period"] == {"start": "2026-12-01T00:00:00Z", "end": "2027-01-01T00:00:00Z"}
    assert [phase["starts_at"] for phase in shown["phases"]] == ["2026-11-01T00:00:00Z"]
    assert (shown["trial_ends_at"], shown["ends_at"], shown["pauses"], shown["coupons"]) == (None, None, [], [])


def test_subscriptions_are_listed_newest_first_by_cursor(operator_api, subscription):
    ask(operator_api, subscription, "cancel", {"when": "now"})
    with time_machine.travel(at(2026, 11, 17), tick=False):
        operator_api.post("/v1/subscriptions", {"organisation": "globex", "plan": "team"})
        first = operator_api.get("/v1/subscriptions?organisation=globex&limit=1").json()
        second = operator_api.get(f"/v1/subscriptions?organisation=globex&cursor={first['next_cursor']}").json()

    assert [row["state"] for row in (*first["items"], *second["items"])] == ["active", "cancelled"]
    assert second["items"][0]["next_period"] is None
    assert second["next_cursor"] is None


def test_subscription_starts_with_a_trial(operator_api, acme):
    team()
    started = operator_api.post("/v1/subscriptions", {"organisation": "acme", "plan": "team", "trial_days": 14})

    assert started.status_code == 201
    assert (started.json()["state"], started.json()["trial_ends_at"]) == ("trialing", "2026-11-30T00:00:00Z")
    assert AuditEntry.objects.get(action="subscription.started").actor_label.startswith("service token")


def test_subscription_is_started_once_for_one_key(operator_api, acme):
    team(), payg()
    wanted = {"organisation": "acme", "plan": "team"}
    first = operator_api.post("/v1/subscriptions", wanted, headers={"Idempotency-Key": "start"})
    again = operator_api.post("/v1/subscriptions", wanted, headers={"Idempotency-Key": "start"})
    other = operator_api.post("/v1/subscriptions", {**wanted, "plan": "payg"}, headers={"Idempotency-Key": "start"})

    assert (first.status_code, again.status_code, again.json()) == (201, 200, first.json())
    assert (other.status_code, other.json()["code"]) == (422, "idempotency_key_reused")
    assert Subscription.objects.for_organisation(acme).count() == 1


@pytest.mark.parametrize(
    ("wanted", "status", "code"),
    [
        ({"plan": "nothing"}, 422, "unknown_plan"),
        ({"plan": "team", "version": 7}, 422, "unknown_plan"),
        ({"plan": "team", "anchor_at": "2026-12-01T00:00:00Z"}, 422, "anchor_in_future"),
        ({"plan": "team", "anchor_at": "2024-12-01T00:00:00Z"}, 422, "anchor_too_early"),
        ({"plan": "team"}, 409, "already_subscribed"),
        ({}, 400, "invalid_request"),
    ],
)
def test_what_cannot_be_started_is_refused_with_a_code(operator_api, subscription, wanted, status, code):
    refused = operator_api.post("/v1/subscriptions", {"organisation": "globex", **wanted})

    assert (refused.status_code, refused.json()["code"]) == (status, code)


def test_change_is_previewed_and_made_as_previewed(operator_api, api, globex, subscription):
    customer = api(factories.access_token(globex).secret)
    preview = ask(customer, subscription, "change-preview", {"plan": "team"}).json()
    # Half of November is left, so half of the thirty dollars; December's are charged with November's bill.
    assert (preview["unchanged_total_minor"], preview["now"]["total_minor"]) == (1000, 1000 + 1500 + 3000)
    assert preview["now"]["takes_effect_at"] == "2026-11-16T00:00:00Z"
    assert preview["at_period_end"]["difference_minor"] == 3000

    changed = ask(operator_api, subscription, "change", {"plan": "team", "when": "now"}).json()
    assert (changed["plan"], [phase["plan"] for phase in changed["phases"]]) == ("team", ["payg", "team"])
    assert customer.get("/v1/bill").json()["total_minor"] == preview["now"]["total_minor"]


def test_cancelling_is_previewed_and_done_as_previewed(operator_api, api, globex):
    """Thirty dollars for November were paid with October's bill, and half of it is left."""
    subscription = subscribed(globex, team(fee="30"), anchor=at(2026, 10))
    price("input_tokens", "1.00")
    close_period(subscription, now=at(2026, 11, 1, 2))
    use(globex, at(2026, 11, 5), input_tokens=4_000_000)
    customer = api(factories.access_token(globex).secret)

    preview = ask(customer, subscription, "cancel-preview").json()

    now, later = preview["now"], preview["at_period_end"]
    assert [(one["ends_at"], one["due_minor"], one["returned_minor"]) for one in (now, later)] == [
        ("2026-11-16T00:15:00Z", 0, 1100 - 1),
        ("2026-12-01T00:00:00Z", 400, 0),
    ]
    assert (now["total_minor"], sum(line["amount_minor"] for line in now["lines"])) == (-1099, -1099)
    assert now["lines"][0]["project"] is None
    assert ask(operator_api, subscription, "cancel", {"when": "now"}).json()["ends_at"] == now["ends_at"]
    last = close_period(subscription, now=at(2026, 11, 17))
    assert last.lines.get(kind="owed").amount_minor == now["returned_minor"]


def test_cancelling_a_trial_is_previewed_with_its_end(operator_api, acme):
    team()
    started = operator_api.post("/v1/subscriptions", {"organisation": "acme", "plan": "team", "trial_days": 7}).json()

    preview = operator_api.post(f"/v1/subscriptions/{started['id']}/cancel-preview?organisation=acme").json()

    assert preview["at_period_end"]["ends_at"] == started["trial_ends_at"]
    assert (preview["at_period_end"]["due_minor"], preview["at_period_end"]["returned_minor"]) == (0, 0)


def test_what_is_over_cannot_be_previewed(operator_api, subscription):
    ask(operator_api, subscription, "cancel", {"when": "now"})
    with time_machine.travel(at(2026, 11, 17), tick=False):
        refused = [ask(operator_api, subscription, act, {"plan": "team"}) for act in PREVIEWS]

    assert [(one.status_code, one.json()["code"]) for one in refused] == [(409, "subscription_over")] * 2


def test_coming_change_is_shown_and_taken_back(operator_api, subscription):
    changed = ask(operator_api, subscription, "change").json()
    assert (changed["plan"], changed["phases"][-1]["plan"]) == ("payg", "team")
    assert changed["phases"][-1]["starts_at"] == "2026-12-01T00:00:00Z"

    assert len(ask(operator_api, subscription, "change-withdrawal").json()["phases"]) == 1
    refused = ask(operator_api, subscription, "change-withdrawal")
    assert (refused.status_code, refused.json()["code"]) == (409, "no_change_pending")


def test_act_sent_again_is_carried_out_once(operator_api, subscription):
    answers = [ask(operator_api, subscription, "pause", headers={"Idempotency-Key": "rest"}) for _ in range(2)]

    assert [answer.status_code for answer in answers] == [200, 200]
    assert answers[0].json() == answers[1].json()
    assert AuditEntry.objects.filter(action="subscription.paused").count() == 1


def test_pause_is_shown_and_ended(operator_api, subscription):
    paused = ask(operator_api, subscription, "pause", {"reason": "Asked for"}).json()
    assert (paused["state"], paused["pauses"]) == (
        "paused",
        [{"starts_at": "2026-11-16T00:15:00Z", "ends_at": None}],
    )
    with time_machine.travel(at(2026, 11, 20), tick=False):
        resumed = ask(operator_api, subscription, "resume").json()
    assert (resumed["state"], resumed["pauses"][0]["ends_at"]) == ("active", "2026-11-20T00:00:00Z")


def test_cancelled_subscription_is_taken_up_again_until_it_ends(operator_api, subscription):
    cancelled = ask(operator_api, subscription, "cancel").json()
    assert (cancelled["state"], cancelled["ends_at"], cancelled["next_period"]) == (
        "active",
        "2026-12-01T00:00:00Z",
        None,
    )
    assert ask(operator_api, subscription, "reactivate").json()["ends_at"] is None

    assert ask(operator_api, subscription, "cancel", {"when": "now"}).json()["ends_at"] == "2026-11-16T00:15:00Z"
    with time_machine.travel(at(2026, 11, 17), tick=False):
        refused = {act: ask(operator_api, subscription, act) for act in ACTS if act != "coupons"}
    assert {act: answer.status_code for act, answer in refused.items()} == dict.fromkeys(refused, 409)
    assert {answer.json()["code"] for answer in refused.values()} == {"subscription_over"}


@pytest.mark.parametrize(
    ("act", "body", "status", "code"),
    [
        ("change", {"plan": "payg"}, 409, "same_plan"),
        ("change", {"plan": "nothing"}, 422, "unknown_plan"),
        ("change", {"plan": "team", "when": "yesterday"}, 400, "invalid_request"),
        ("change-preview", {"plan": "payg"}, 409, "same_plan"),
        ("resume", {}, 409, "not_paused"),
        ("reactivate", {}, 409, "not_cancelled"),
        ("trial", {"ends_at": "2026-12-01T00:00:00Z"}, 409, "not_on_trial"),
        ("coupons", {"code": "NONE"}, 422, "coupon_unknown"),
    ],
)
def test_what_the_state_forbids_is_refused_with_a_code(operator_api, subscription, act, body, status, code):
    refused = ask(operator_api, subscription, act, body)

    assert (refused.status_code, refused.json()["code"]) == (status, code)


def test_trial_is_made_longer(operator_api, acme):
    team()
    started = operator_api.post("/v1/subscriptions", {"organisation": "acme", "plan": "team", "trial_days": 7}).json()
    address = f"/v1/subscriptions/{started['id']}/trial?organisation=acme"
    moved = operator_api.post(address, {"ends_at": "2026-12-05T00:10:00Z"}).json()

    assert (moved["state"], moved["trial_ends_at"]) == ("trialing", "2026-12-05T00:00:00Z")


def test_coupon_is_redeemed_shown_and_taken_away(operator_api, api, globex, subscription):
    coupon(duration="periods", periods=3)
    redeemed = ask(operator_api, subscription, "coupons", {"code": "launch"}, headers={"Idempotency-Key": "gift"})
    again = ask(operator_api, subscription, "coupons", {"code": "launch"}, headers={"Idempotency-Key": "gift"})
    assert (redeemed.status_code, again.status_code, again.json()) == (201, 200, redeemed.json())
    customer = api(factories.access_token(globex).secret)
    shown = customer.get(f"/v1/subscriptions/{subscription.public_id}").json()["coupons"]
    assert [(row["code"], row["words"], row["periods_left"]) for row in shown] == [("LAUNCH", "20% off", 3)]
    assert customer.get("/v1/bill").json()["total_minor"] == 800

    address = f"/v1/subscriptions/{subscription.public_id}/coupons/{redeemed.json()['id']}?organisation=globex"
    assert operator_api.delete(address).json()["withdrawn_at"] == "2026-11-16T00:00:00Z"
    assert customer.get("/v1/bill").json()["total_minor"] == 800  # the running period keeps it
    refused = operator_api.delete(address)
    assert (refused.status_code, refused.json()["code"]) == (409, "redemption_over")


def test_coupon_is_made_once_changed_and_archived(operator_api):
    wanted = {"code": "launch", "name": "Launch", "amount": "5", "currency": "USD", "duration": "forever"}
    made, again = (operator_api.post("/v1/coupons", wanted) for _ in range(2))
    other = operator_api.post("/v1/coupons", {**wanted, "amount": "6"})
    assert (made.status_code, again.status_code, again.json()) == (201, 200, made.json())
    assert (made.json()["code"], made.json()["amount"]) == ("LAUNCH", "5")
    assert (other.status_code, other.json()["code"]) == (409, "coupon_exists")

    address = f"/v1/coupons/{made.json()['id']}"
    changed = operator_api.patch(address, {"most_redemptions": 3}, content_type="application/json").json()
    archived = [operator_api.post(f"{address}/archival").json()["archived_at"] for _ in range(2)]
    assert (changed["most_redemptions"], archived) == (3, ["2026-11-16T00:00:00Z"] * 2)
    assert [row["code"] for row in operator_api.get("/v1/coupons").json()["items"]] == ["LAUNCH"]


@pytest.mark.parametrize(
    "wrong",
    [
        {},
        {"percent": "20", "amount": "5", "currency": "USD"},
        {"percent": "101"},
        {"percent": "20", "currency": "USD"},
        {"amount": "5"},
        {"amount": "-5", "currency": "USD"},
        {"percent": "20", "duration": "periods"},
        {"percent": "20", "periods": 3},
        {"percent": "20", "code": "sp@ce"},
    ],
)
def test_coupon_that_makes_no_sense_is_refused(operator_api, wrong):
    refused = operator_api.post("/v1/coupons", {"code": "ODD", "name": "Odd", **wrong})

    assert (refused.status_code, refused.json()["code"]) == (422, "coupon_invalid")


def test_customers_read_and_preview_but_change_nothing(api, globex, subscription):
    customer = api(factories.access_token(globex).secret)
    answers = {act: ask(customer, subscription, act) for act in ACTS}

    assert {answer.status_code for answer in answers.values()} == {403}
    assert {answer.json()["required_scope"] for answer in answers.values()} == {"billing:write"}
    assert customer.post("/v1/subscriptions", {"plan": "team"}).status_code == 403
    assert customer.get("/v1/coupons").json()["code"] == "service_token_required"
    assert Scope.BILLING_WRITE not in factories.access_token(globex).token.scopes


def test_customers_cannot_ask_about_plans_that_are_not_on_offer(api, globex, operator_api, subscription):
    hidden = team("hidden")
    hidden.plan.is_public = False
    hidden.plan.save()

    customer = api(factories.access_token(globex).secret)
    assert ask(customer, subscription, "change-preview", {"plan": "hidden"}).json()["code"] == "unknown_plan"
    assert ask(operator_api, subscription, "change-preview", {"plan": "hidden"}).status_code == 200


def test_nothing_of_another_organisation_exists(api, acme, operator_api, subscription):
    coupon()
    redeemed = ask(operator_api, subscription, "coupons").json()["id"]
    stranger = api(factories.access_token(acme).secret)
    for act in (*ACTS, *PREVIEWS):
        address = f"/v1/subscriptions/{subscription.public_id}/{act}"
        assert operator_api.post(f"{address}?organisation=acme", BODIES.get(act, {})).status_code == 404, act
    own = f"/v1/subscriptions/{subscription.public_id}"
    assert stranger.get(own).status_code == 404
    assert {stranger.post(f"{own}/{act}", {"plan": "team"}).status_code for act in PREVIEWS} == {404}
    assert operator_api.delete(f"{own}/coupons/{redeemed}?organisation=acme").status_code == 404
    assert stranger.get("/v1/subscriptions?organisation=globex").status_code == 404
    assert stranger.get("/v1/subscriptions").json()["items"] == []
    assert operator_api.get(own).json()["code"] == "organisation_required"
