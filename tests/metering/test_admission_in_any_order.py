"""Calls asked for, settled, released, extended, expired, reported, resent, corrected, folded and pruned in any order.

The machine keeps books of its own on quotas that never reset; those that do are compared with events and holds. Both
agree with what is stored after every step, and no admission ever passes a hard limit.
"""

import itertools
from dataclasses import dataclass, field
from datetime import timedelta
from decimal import Decimal

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from metering.admission import admit, expire_holds, extend, find_hold, release, settle, would_admit
from metering.admission.settling import HoldEnded, NoRoom
from metering.models import Hold
from metering.pruning import prune_before
from metering.quotas import change_quota
from metering.recounting import compare_counters
from tests import factories
from tests.metering.admission_world import asking, counter, estimate, quota
from tests.metering.conftest import NOW
from tests.metering.usage_world import correction, event, fold_all, send

pytestmark = pytest.mark.django_db(transaction=True)

PRICE = Decimal("0.01")
UNITS = (0, 1, 75, 200)


@dataclass
class Call:
    """What the machine knows of one admitted call."""

    id: str
    call_id: str
    held: int
    expires_at: object
    state: str = "held"
    used: int | None = None
    # Reports in the order in which they were sent; only the first can be the hold's.
    reports: list = field(default_factory=list)
    is_bound: bool = False


class Admissions(RuleBasedStateMachine):
    worlds = itertools.count(1)

    def __init__(self):
        super().__init__()
        self.now = NOW
        self.number = 0
        self.calls = {}
        self.pending = []
        self.sent = {}
        self.corrected = set()
        # Beyond what holds used: events without a hold and corrections, as (tokens, requests).
        self.others = [0, 0]
        world = next(self.worlds)
        owner = factories.user(f"owner-{world}@example.com")
        self.acme = factories.organisation(f"Acme {world}", owner, time_zone="Europe/Berlin")
        self.key = factories.api_key(self.acme)
        estimate(self.acme, "input_tokens", PRICE, valid_from=NOW - timedelta(days=60))

    @initialize()
    def set_limits(self):
        now = self.now
        self.tokens = quota(self.acme, "input_tokens", 500, now=now)
        self.requests = quota(self.acme, "requests", 8, now=now)
        self.spend = quota(self.acme, "USD", 4, now=now)
        self.running = quota(self.acme, "concurrent", 3, now=now)
        self.windowed = [
            quota(self.acme, "input_tokens", 300, "minute", now=now, enforcement="soft"),
            quota(self.acme, "input_tokens", 400, "day", now=now, scope="api_key", api_key=self.key.api_key),
            quota(self.acme, "input_tokens", 250, "hour", now=now, scope="end_user"),
            quota(self.acme, "requests", 3, "minute", now=now, models=("m-2",)),
        ]

    def named(self):
        self.number += 1
        return f"{self.number}"

    # --- The gateway --------------------------------------------------------------------------------------------

    @rule(units=st.sampled_from(UNITS), end_user=st.sampled_from(["", "ada", "bob"]), model=st.sampled_from([1, 2]))
    def ask(self, units, end_user, model):
        request = asking(self.key, f"c-{self.named()}", model=f"m-{model}", end_user=end_user, input_tokens=units)
        expected = would_admit(request, now=self.now)
        before = self.books()
        answer = admit(request, now=self.now)
        assert answer.is_allowed == expected.is_allowed
        assert (answer.refusal and answer.refusal.code) == (expected.refusal and expected.refusal.code)
        if not self.has_room(before, units):
            assert not answer.is_allowed
        if answer.is_allowed:
            self.calls[answer.id] = Call(answer.id, request.call_id, units, answer.expires_at)

    def has_room(self, before, units):
        (tokens, held), (requests, _), (spend, spend_held), (_, running) = before
        return (
            (units == 0 or tokens + held + units <= self.tokens.amount)
            and requests + before[1][1] + 1 <= 8
            and (units == 0 or spend + spend_held + units * PRICE <= 4)
            and running + 1 <= 3
        )

    @rule(data=st.data())
    def ask_again(self, data):
        if call := self.drawn(data):
            again = admit(asking(self.key, call.call_id, input_tokens=1), now=self.now)
            assert again.id == (call.id if call.state == "held" else None)
            assert again.is_allowed == (call.state == "held")

    @rule(data=st.data(), units=st.sampled_from(UNITS))
    def settle(self, data, units):
        if call := self.drawn(data):
            hold = settle(find_hold(call.id), {"input_tokens": Decimal(units)}, now=self.now)
            if call.state in ("held", "expired"):
                assert hold.was_late == (call.state == "expired")
                call.state, call.used = "settled", units
            assert hold.state == call.state

    @rule(data=st.data())
    def release(self, data):
        if call := self.drawn(data):
            hold = release(find_hold(call.id), now=self.now)
            if call.state == "held":
                call.state = "released"
            assert hold.state == call.state

    @rule(data=st.data(), units=st.sampled_from(UNITS))
    def extend(self, data, units):
        if call := self.drawn(data):
            try:
                hold = extend(find_hold(call.id), {"input_tokens": Decimal(units)}, now=self.now)
            except HoldEnded:
                assert call.state != "held"
            except NoRoom:
                assert call.state == "held"
                assert units
            else:
                call.held += units
                assert hold.state == call.state == "held"

    # --- Reports ------------------------------------------------------------------------------------------------

    @rule(data=st.data(), units=st.sampled_from(UNITS), by=st.sampled_from(["admission", "call_id"]))
    def report(self, data, units, by):
        if call := self.drawn(data):
            if call.reports:
                self.fold()  # of two reports of one call, the one folded first is the hold's
            named = {by: call.id if by == "admission" else call.call_id}
            call.reports.append(self.send(units, call, **named))

    @rule(units=st.sampled_from(UNITS), minutes=st.sampled_from([0, 1, 90]), end_user=st.sampled_from([None, "ada"]))
    def report_what_was_never_asked(self, units, minutes, end_user):
        named = {"end_user": end_user} if end_user else {}
        self.send(units, None, minutes=minutes, call_id="unknown", **named)

    def send(self, units, call, *, minutes=0, **fields):
        event_id = f"e-{self.named()}"
        time = self.now - timedelta(minutes=minutes)
        draft = event(self.key.api_key.public_id, time, event_id=event_id, input_tokens=units, **fields)
        send(draft, now=self.now)
        self.sent[event_id] = (draft, units)
        self.pending.append((call, units, 1))
        return event_id

    @rule(data=st.data())
    def resend(self, data):
        if self.sent:
            draft, _ = self.sent[data.draw(st.sampled_from(sorted(self.sent)))]
            assert [one.verdict for one in send(draft, now=self.now)] == ["duplicate"]

    @rule(data=st.data(), units=st.sampled_from([None, *UNITS]))
    def correct(self, data, units):
        """Void or amend what was folded."""
        self.fold()
        if names := sorted(set(self.sent) - self.corrected):
            name = data.draw(st.sampled_from(names))
            draft, was = self.sent[name]
            amended = None if units is None else {"model": "m-1", "input_tokens": units, "call_id": "unknown"}
            send(correction(draft.subject, name, self.now, data=amended), now=self.now)
            self.corrected.add(name)
            self.pending.append((None, (units or 0) - was, 0 if amended else -1))

    @rule()
    def fold(self):
        fold_all(self.now)
        for call, units, requests in self.pending:
            if call is None or call.is_bound:
                self.others[0] += units
                self.others[1] += requests
                continue
            call.is_bound = True
            if call.state != "settled":
                call.state, call.used = "settled", units
        self.pending = []

    # --- Time and limits ----------------------------------------------------------------------------------------

    @rule(seconds=st.sampled_from([1, 30, 61, 599, 3601]))
    def wait(self, seconds):
        self.now += timedelta(seconds=seconds)

    @rule()
    def expire(self):
        due = [one for one in self.calls.values() if one.state == "held" and one.expires_at <= self.now]
        assert expire_holds(self.now) == len(due)
        for call in due:
            call.state = "expired"

    @rule()
    def prune(self):
        """Forget calls that have ended; what they used still counts."""
        self.fold()
        prune_before(self.now)
        kept = set(Hold.objects.filter(organisation=self.acme).values_list("id", flat=True))
        for call in [one for one in self.calls.values() if one.id not in kept]:
            assert call.state != "held"
            if call.state == "settled":
                self.others[0] += call.used
                self.others[1] += 1
            del self.calls[call.id]

    @rule(amount=st.sampled_from([100, 500, 900]))
    def change_the_limit(self, amount):
        self.tokens = change_quota(self.tokens, by_customer=False, amount=Decimal(amount), actor="test")

    @rule()
    def set_another_limit(self):
        """It begins with what its window has seen; running calls do not count on it until they are reported."""
        if len(self.windowed) < 6:
            self.windowed.append(
                quota(self.acme, "input_tokens", 10_000, "day", now=self.now, models=(f"m-{len(self.windowed)}", "m-1"))
            )

    # --- What must hold -----------------------------------------------------------------------------------------

    def drawn(self, data):
        return self.calls[data.draw(st.sampled_from(sorted(self.calls)))] if self.calls else None

    def books(self):
        """Used and held of tokens, requests, spend and running calls, by the machine's own account."""
        calls = self.calls.values()
        settled = [call for call in calls if call.state == "settled"]
        held = [call for call in calls if call.state == "held"]
        tokens = sum(call.used for call in settled) + self.others[0]
        holding = sum(call.held for call in held)
        requests = len(settled) + self.others[1]
        return (
            (tokens, holding),
            (requests, len(held)),
            (tokens * PRICE, holding * PRICE),
            (0, len(held)),
        )

    @invariant()
    def counters_are_what_the_machine_says(self):
        if not hasattr(self, "tokens"):
            return
        stored = tuple(counter(one) for one in (self.tokens, self.requests, self.spend, self.running))
        assert stored == self.books()

    def teardown(self):
        fold_all(self.now)
        assert compare_counters(self.acme, now=self.now, since=NOW - timedelta(days=3)) == []
        for hold in Hold.objects.filter(organisation=self.acme, state="held"):
            release(hold, now=self.now)


def test_counters_are_exact_whatever_comes_in_whatever_order():
    # Smaller examples would take minutes to find and tell little more: each step is checked as it is made.
    quick = settings(
        phases=[Phase.generate],
        max_examples=12,
        stateful_step_count=30,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    run_state_machine_as_test(Admissions, settings=quick)
