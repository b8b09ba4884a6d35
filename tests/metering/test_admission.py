"""Admission: who is let through, what is held, how holds end, and that events settle them exactly once."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from accounts.api_keys import revoke_api_key
from accounts.organisations import suspend
from metering.admission import AdmissionRequest, admit, expire_holds, extend, find_hold, release, settle, would_admit
from metering.admission.settling import HoldEnded, NoRoom
from metering.models import Denial, Hold, PriceEstimate, QuotaWindow
from metering.quotas import QuotaSpec, add_increase, archive_quota, change_quota, define_quota, set_credit_limit
from metering.recounting import compare_counters
from tests import factories
from tests.accounts.threads import at_once
from tests.metering.usage_world import correction, event, fold_all, send

NOW = datetime(2026, 11, 15, 12, 0, 30, tzinfo=UTC)
SOON = timedelta(seconds=5)


def quota(organisation, amount, *, meter="output_tokens", window="day", **more):
    measure = more.pop("measure", "meter")
    spec = QuotaSpec(
        measure=measure,
        meter_key=meter if measure == "meter" else "",
        amount=Decimal(amount),
        window=window,
        currency="USD" if measure == "spend" else "",
        **more,
    )
    return define_quota(organisation, spec, set_by="operator", now=NOW, actor="test")


def price(organisation, meter, per_million, model="m-1"):
    PriceEstimate.objects.create(
        organisation=organisation,
        meter_key=meter,
        model=model,
        currency="USD",
        unit_price=Decimal(per_million) / 1_000_000,
        valid_from=datetime(2026, 1, 1, tzinfo=UTC),
    )


def ask(key, call_id="call-1", *, now=NOW, model="m-1", **more):
    estimate = {name: Decimal(units) for name, units in more.pop("units", {"output_tokens": 75}).items()}
    return admit(AdmissionRequest(call_id, key.digest, model, estimate=estimate, **more), now=now)


def counter(quota):
    row = QuotaWindow.objects.get(organisation_id=quota.organisation_id, quota_id=quota.pk)
    return row.used, row.held


def report(key, hold_id, *, now=NOW, time=None, **units):
    send(event(key.api_key.public_id, time or now, admission=hold_id, **units), now=now)
    fold_all(now)


def test_a_call_holds_what_it_may_need_and_its_event_makes_that_use(acme, acme_key):
    limit = quota(acme, 500)

    answer = ask(acme_key)
    assert answer.is_allowed
    assert (answer.limits[0].held, answer.limits[0].remaining) == (75, 425)
    assert counter(limit) == (0, 75)

    report(acme_key, answer.id, output_tokens=60, input_tokens=10)
    assert counter(limit) == (60, 0)
    assert find_hold(answer.id).usage == {"output_tokens": "60", "input_tokens": "10", "requests": "1"}
    assert compare_counters(acme, now=NOW) == []


def test_a_full_limit_refuses_with_what_remains_and_when_it_starts_anew(acme, acme_key):
    quota(acme, 100)
    ask(acme_key, "first")

    refusal = ask(acme_key, "second").refusal

    assert (refusal.code, refusal.status) == ("quota_exceeded", 429)
    assert refusal.limit.remaining == 25
    assert refusal.limit.resets_at == datetime(2026, 11, 15, 23, tzinfo=UTC)  # midnight in Berlin
    assert refusal.retry_after(NOW) == 10 * 3600 + 59 * 60 + 30
    assert "100 output tokens per day" in refusal.message
    assert Denial.objects.get().code == "quota_exceeded"


def test_the_same_call_is_answered_with_its_first_hold(acme, acme_key):
    limit = quota(acme, 100)
    first = ask(acme_key)

    again = ask(acme_key, now=NOW + SOON)

    assert again.id == first.id
    assert again.expires_at == first.expires_at
    assert counter(limit) == (0, 75)


def test_the_id_of_a_call_that_ended_lets_nothing_through(acme, acme_key):
    quota(acme, 1000)
    release(find_hold(ask(acme_key).id), now=NOW)

    assert ask(acme_key).refusal.code == "call_ended"


def test_denials_of_the_same_kind_are_counted_in_one_row(acme, acme_key):
    quota(acme, 10)
    for number in range(3):
        ask(acme_key, f"call-{number}")

    assert [(row.code, row.count) for row in Denial.objects.all()] == [("quota_exceeded", 3)]


# --- Who may ----------------------------------------------------------------------------------------------------------


def test_an_unknown_key_is_refused(db):
    assert admit(AdmissionRequest("c", "0" * 64, "m-1"), now=NOW).refusal.code == "key_unknown"


def test_revocation_suspension_and_limits_bite_on_the_very_next_call(acme, acme_key, olivia):
    limit = quota(acme, 1000)
    assert ask(acme_key, "a").is_allowed
    change_quota(limit, by_customer=False, amount=Decimal(80), actor="test")
    assert ask(acme_key, "b").refusal.code == "quota_exceeded"
    archive_quota(limit, by_customer=False, now=NOW, actor="test")
    assert ask(acme_key, "c").is_allowed
    suspend(acme, actor="test")
    assert ask(acme_key, "d").refusal.code == "organisation_suspended"
    revoke_api_key(acme_key.api_key, actor="test")
    assert ask(acme_key, "e").refusal.code == "key_revoked"


def test_models_and_networks_of_a_key(acme, acme_key):
    key = acme_key.api_key
    key.allowed_models, key.allowed_networks = ["m-*"], ["203.0.113.0/24"]
    key.save()

    assert ask(acme_key, "a", client_ip="203.0.113.9").is_allowed
    assert ask(acme_key, "b", client_ip="198.51.100.1").refusal.code == "network_not_allowed"
    assert ask(acme_key, "c", model="gpt-5", client_ip="203.0.113.9").refusal.code == "model_not_allowed"


# --- Measures, scopes and windows -------------------------------------------------------------------------------------


def test_spend_is_held_at_the_quoted_price_and_counted_at_the_same(acme, acme_key):
    price(acme, "output_tokens", "10")
    limit = quota(acme, "5", measure="spend", window="month")

    answer = ask(acme_key, units={"output_tokens": 400_000})
    assert (answer.quoted, answer.currency) == (4, "USD")
    refused = ask(acme_key, "b", units={"output_tokens": 200_000}).refusal
    assert (refused.code, refused.status) == ("spend_limit_exceeded", 402)

    report(acme_key, answer.id, output_tokens=123_456)
    assert counter(limit) == (Decimal("1.23456"), 0)


def test_use_without_a_hold_costs_what_its_model_cost_at_its_time(acme, acme_key):
    price(acme, "output_tokens", "10")
    price(acme, "output_tokens", "99", model="")
    PriceEstimate.objects.create(
        organisation=acme,
        meter_key="output_tokens",
        model="m-1",
        currency="USD",
        unit_price=Decimal("0.00002"),
        valid_from=NOW - timedelta(minutes=1),
    )
    limit = quota(acme, "5", measure="spend", window="day")
    key = acme_key.api_key.public_id

    send(event(key, NOW - timedelta(minutes=5), output_tokens=100_000), now=NOW)
    send(event(key, NOW, output_tokens=50_000), now=NOW)
    send(event(key, NOW, model="m-2", output_tokens=1000), now=NOW)
    fold_all(NOW)

    assert counter(limit) == (Decimal("1") + Decimal("1") + Decimal("0.099"), 0)


def test_requests_and_concurrent_calls(acme, acme_key):
    requests = quota(acme, 2, measure="requests", window="minute")
    running = quota(acme, 1, measure="concurrent", window="none")

    first = ask(acme_key, "a")
    refusal = ask(acme_key, "b").refusal
    assert refusal.limit.measure == "concurrent"
    assert refusal.retry_after(NOW) == 1
    report(acme_key, first.id, output_tokens=1)
    assert (counter(requests), counter(running)) == ((1, 0), (0, 0))
    assert ask(acme_key, "c").is_allowed
    release(find_hold(Hold.objects.get(call_id="c").id), now=NOW)
    assert ask(acme_key, "d").is_allowed


def test_scopes_count_apart(acme, acme_key):
    other = factories.api_key(acme, "Other")
    of_key = quota(acme, 100, scope="api_key", api_key=acme_key.api_key)
    each = quota(acme, 100, scope="end_user")

    assert ask(acme_key, "a", end_user="ann").is_allowed
    assert ask(acme_key, "b", end_user="bob").refusal.limit.quota == of_key.public_id
    assert ask(other, "c", end_user="bob").is_allowed
    assert ask(other, "d", end_user="ann").refusal.limit.quota == each.public_id
    assert ask(other, "e").is_allowed  # no end user was named


def test_models_of_a_quota(acme, acme_key):
    quota(acme, 100, models=("gpt-*",))

    assert ask(acme_key, "a", model="gpt-5").is_allowed
    assert not ask(acme_key, "b", model="gpt-5").is_allowed
    assert ask(acme_key, "c", model="claude").is_allowed


def test_a_window_starts_anew(acme, acme_key):
    quota(acme, 100, window="minute")

    assert ask(acme_key, "a").is_allowed
    assert not ask(acme_key, "b").is_allowed
    assert ask(acme_key, "c", now=NOW + timedelta(seconds=30)).is_allowed


def test_a_soft_limit_warns_and_lets_through(acme, acme_key):
    quota(acme, 100, enforcement="soft")
    ask(acme_key, "a")

    answer = ask(acme_key, "b")

    assert answer.is_allowed
    assert [limit.amount for limit in answer.passed] == [100]


def test_an_increase_holds_for_its_time_alone(acme, acme_key):
    limit = quota(acme, 100)
    add_increase(limit, Decimal(100), starts_at=NOW, ends_at=NOW + SOON, actor="test")

    assert ask(acme_key, "a").is_allowed
    assert ask(acme_key, "b").is_allowed
    assert not ask(acme_key, "c", now=NOW + SOON).is_allowed


def test_prepaid_credit_stops_at_its_end(acme, acme_key):
    price(acme, "output_tokens", "10")
    set_credit_limit(acme, amount=Decimal("1.00"), currency="USD", now=NOW)

    assert ask(acme_key, "a", units={"output_tokens": 100_000}).is_allowed
    refusal = ask(acme_key, "b", units={"output_tokens": 1}).refusal
    assert (refusal.code, refusal.status, refusal.retry_after(NOW)) == ("credit_exhausted", 402, None)
    set_credit_limit(acme, amount=Decimal("2.00"), currency="USD", now=NOW)
    assert ask(acme_key, "c", units={"output_tokens": 1}).is_allowed


def test_an_estimate_is_made_from_what_the_gateway_knows(acme, acme_key):
    request = AdmissionRequest("a", acme_key.digest, "m-1", prompt_tokens=120, max_tokens=None)

    assert admit(request, now=NOW).estimate == {"input_tokens": 120, "output_tokens": 1000}


def test_a_simulation_says_what_the_call_would_be_told_and_holds_nothing(acme, acme_key):
    limit = quota(acme, 100)
    request = AdmissionRequest("sim", acme_key.digest, "m-1", estimate={"output_tokens": Decimal(75)})

    assert would_admit(request, now=NOW).is_allowed
    ask(acme_key)
    assert would_admit(request, now=NOW).refusal == ask(acme_key, "real").refusal
    assert counter(limit) == (0, 75)
    assert not Hold.objects.filter(call_id="sim").exists()


# --- How holds end ----------------------------------------------------------------------------------------------------


def test_settling_twice_and_releasing_after_it_change_nothing(acme, acme_key):
    limit = quota(acme, 500)
    hold = find_hold(ask(acme_key).id)
    settle(hold, {"output_tokens": Decimal(60)}, now=NOW)

    settle(hold, {"output_tokens": Decimal(99)}, now=NOW)
    release(hold, now=NOW)
    report(acme_key, hold.id, output_tokens=60)

    assert counter(limit) == (60, 0)
    assert compare_counters(acme, now=NOW) == []


def test_an_event_after_its_hold_expired_counts_and_shows_as_overdraft(acme, acme_key):
    limit = quota(acme, 100)
    hold = find_hold(ask(acme_key).id)
    later = NOW + timedelta(minutes=11)
    assert expire_holds(later) == 1
    assert counter(limit) == (0, 0)

    ask(acme_key, "another", now=later)
    report(acme_key, hold.id, now=later, output_tokens=90)

    assert counter(limit) == (90, 75)
    assert find_hold(hold.id).was_late
    assert not ask(acme_key, "third", now=later).is_allowed
    assert compare_counters(acme, now=later) == []


def test_an_event_after_a_release_counts_all_the_same(acme, acme_key):
    limit = quota(acme, 100)
    hold = release(find_hold(ask(acme_key).id), now=NOW)

    report(acme_key, hold.id, output_tokens=10)

    assert counter(limit) == (10, 0)
    assert compare_counters(acme, now=NOW) == []


def test_more_may_be_used_than_was_held(acme, acme_key):
    limit = quota(acme, 100)
    report(acme_key, ask(acme_key).id, output_tokens=140)

    assert counter(limit) == (140, 0)
    assert ask(acme_key, "b").refusal.limit.overdraft == 40


def test_a_stream_extends_its_hold_as_far_as_there_is_room(acme, acme_key):
    limit = quota(acme, 100)
    hold = find_hold(ask(acme_key).id)

    extend(hold, {"output_tokens": Decimal(20)}, time_to_live=timedelta(minutes=30), now=NOW)
    with pytest.raises(NoRoom):
        extend(hold, {"output_tokens": Decimal(6)}, now=NOW)

    assert counter(limit) == (0, 95)
    assert find_hold(hold.id).expires_at == NOW + timedelta(minutes=30)
    settle(hold, {"output_tokens": Decimal(50)}, now=NOW)
    assert counter(limit) == (50, 0)
    with pytest.raises(HoldEnded):
        extend(hold, {"output_tokens": Decimal(1)}, now=NOW)


def test_use_without_a_hold_counts_in_the_window_of_its_time(acme, acme_key):
    today, minute = quota(acme, 500), quota(acme, 500, window="minute")

    send(event(acme_key.api_key.public_id, NOW, output_tokens=40), now=NOW)
    send(event(acme_key.api_key.public_id, NOW - timedelta(minutes=3), output_tokens=2), now=NOW)
    fold_all(NOW)

    assert counter(today) == (42, 0)
    windows = QuotaWindow.objects.filter(quota_id=minute.pk).order_by("starts_at")
    assert [row.used for row in windows] == [2, 40]
    assert compare_counters(acme, now=NOW) == []


def test_a_second_event_that_names_the_same_hold_counts_by_itself(acme, acme_key):
    limit = quota(acme, 500)
    hold = ask(acme_key)

    report(acme_key, hold.id, output_tokens=10)
    report(acme_key, hold.id, output_tokens=7)

    assert counter(limit) == (17, 0)
    assert compare_counters(acme, now=NOW) == []


def test_a_hold_of_another_organisation_is_not_settled_by_naming_it(acme, acme_key, globex):
    limit = quota(acme, 500)
    theirs = factories.api_key(globex)
    quota(globex, 500)

    report(theirs, ask(acme_key).id, output_tokens=10)

    assert counter(limit) == (0, 75)


def test_a_new_limit_begins_with_what_its_window_has_used(acme, acme_key):
    send(event(acme_key.api_key.public_id, NOW, output_tokens=40), now=NOW)
    fold_all(NOW)

    assert counter(quota(acme, 500)) == (40, 0)


def test_corrections_move_counters(acme, acme_key):
    limit = quota(acme, 500)
    public_id = acme_key.api_key.public_id
    send(event(public_id, NOW, event_id="wrong", output_tokens=40), now=NOW)
    fold_all(NOW)
    send(correction(public_id, "wrong", NOW), now=NOW)
    fold_all(NOW)

    assert counter(limit) == (0, 0)


def test_data_that_plays_with_the_key_of_events_does_no_harm(acme, acme_key):
    limit = quota(acme, 500)
    public_id = acme_key.api_key.public_id
    send(event(public_id, NOW, event_id="odd", output_tokens=4, event_key="no uuid", admission="adm_x"), now=NOW)
    fold_all(NOW)
    send(correction(public_id, "odd", NOW), now=NOW)
    fold_all(NOW)

    assert counter(limit) == (0, 0)


# --- At once ----------------------------------------------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
def test_twenty_calls_at_once_of_75_on_500_get_exactly_six(acme, acme_key):
    limit = quota(acme, 500)

    answers = at_once(*(lambda n=n: ask(acme_key, f"call-{n}") for n in range(20)))

    assert sum(answer.is_allowed for answer in answers) == 6
    assert counter(limit) == (0, 450)


@pytest.mark.django_db(transaction=True)
def test_the_same_call_asked_at_once_holds_once(acme, acme_key):
    limit = quota(acme, 500)

    answers = at_once(*(lambda: ask(acme_key) for _ in range(8)))

    assert len({answer.id for answer in answers}) == 1
    assert counter(limit) == (0, 75)
