"""Credit that comes with a plan: once a period, whole, and what becomes of the rest."""

from datetime import timedelta
from decimal import Decimal

import pytest

from billing import catalogue, plan_words
from billing.crediting import balance, expire_grants
from billing.included_credit import PlanCreditInvalid
from billing.invoicing import close_ended, close_period, running_bill
from billing.models import CreditGrant, GrantKind, LedgerEntry, PlanVersion, Subscription
from billing.plan_credits import grant_due_credit
from billing.prepaid import effective_balance
from billing.resting import end_pause, pause
from billing.subscribing import cancel, change_plan
from tests import factories
from tests.billing.billing_builders import LONG_AGO, TOKENS, at, price, subscribed, use
from tests.billing.test_closing_concurrency import in_parallel

pytestmark = pytest.mark.django_db
OCTOBER, NOVEMBER, DECEMBER, JANUARY = at(2026, 10), at(2026, 11), at(2026, 12), at(2027, 1)
GRACE = timedelta(hours=2)
DOLLAR = 1_000_000


def with_credit(key: str = "pro", amount: str = "20", *, rolls_for: int = 0, most: str | None = None) -> PlanVersion:
    version = catalogue.draft_version(catalogue.create_plan(key, name=key.title(), is_public=True), currency="USD")
    catalogue.add_rate_card(version, label="Tokens", meters=TOKENS)
    version.credit_amount, version.credit_rolls_for = Decimal(amount), rolls_for
    version.credit_most_rolled = None if most is None else Decimal(most)
    version.save()
    return catalogue.publish_version(version, now=LONG_AGO)


@pytest.fixture(autouse=True)
def _prices() -> None:
    price("input_tokens", "1.00")


def grants_of(subscription: Subscription) -> list[tuple[Decimal, object]]:
    rows = CreditGrant.objects.filter(subscription=subscription).order_by("period_start")
    return list(rows.values_list("amount", "period_start"))


def left(organisation, now) -> Decimal:
    return balance(organisation, currency="USD", now=now)


def test_each_period_brings_credit_once_from_its_beginning(globex):
    subscription = subscribed(globex, with_credit(), anchor=OCTOBER)
    grant = CreditGrant.objects.get()
    assert (grant.kind, grant.effective_at, grant.expires_at) == (GrantKind.PLAN, OCTOBER, NOVEMBER)
    assert (grant.priority, grant.reason, grant.currency) == (50, "Included in Pro", "USD")

    assert [grant_due_credit(at(2026, 10, 20)), grant_due_credit(NOVEMBER), grant_due_credit(at(2026, 11, 2))] == [
        0, 1, 0,
    ]  # fmt: skip
    assert grants_of(subscription) == [(20, OCTOBER), (20, NOVEMBER)]


def test_it_pays_its_period_and_the_rest_ends_with_it(globex):
    subscription = subscribed(globex, with_credit(), anchor=OCTOBER)
    use(globex, at(2026, 10, 5), input_tokens=15 * DOLLAR)
    grant_due_credit(NOVEMBER)
    assert expire_grants(NOVEMBER) == 0

    october = close_period(subscription, now=NOVEMBER + GRACE)

    assert (october.total_minor, expire_grants(NOVEMBER + GRACE)) == (0, 1)
    assert left(globex, NOVEMBER + GRACE) == 20
    use(globex, at(2026, 11, 5), input_tokens=22 * DOLLAR)
    assert running_bill(subscription, at(2026, 11, 6)).total_minor == 200


def test_closing_makes_up_for_a_sweep_that_did_not_come(globex):
    subscription = subscribed(globex, with_credit(), anchor=OCTOBER)
    use(globex, at(2026, 11, 5), input_tokens=15 * DOLLAR)
    later = DECEMBER + GRACE

    invoices = close_ended(later).invoices

    assert [(invoice.period_start, invoice.total_minor) for invoice in invoices] == [(OCTOBER, 0), (NOVEMBER, 0)]
    assert grants_of(subscription) == [(20, OCTOBER), (20, NOVEMBER), (20, DECEMBER)]
    assert grant_due_credit(later) == 0


def test_what_is_left_stays_for_as_many_periods(globex):
    subscription = subscribed(globex, with_credit(rolls_for=1), anchor=OCTOBER)
    close_period(subscription, now=NOVEMBER + GRACE)
    assert left(globex, NOVEMBER + GRACE) == 40
    use(globex, at(2026, 11, 5), input_tokens=5 * DOLLAR)

    close_period(subscription, now=DECEMBER + GRACE)
    expire_grants(DECEMBER + GRACE)

    # October's paid, and its rest has ended; November's stays, and December's is new.
    assert left(globex, DECEMBER + GRACE) == 40
    ended = LedgerEntry.objects.get(account="expired")
    assert (ended.grant.period_start, ended.amount) == (OCTOBER, 15)


def test_what_stays_is_bounded_when_the_period_is_closed(globex):
    subscription = subscribed(globex, with_credit(rolls_for=3, most="25"), anchor=OCTOBER)
    close_period(subscription, now=NOVEMBER + GRACE)
    grant_due_credit(NOVEMBER + GRACE)
    assert left(globex, NOVEMBER + GRACE) == 40
    use(globex, at(2026, 11, 5), input_tokens=3 * DOLLAR)
    ended = DECEMBER + timedelta(minutes=5)
    grant_due_credit(ended)
    # Before it is closed, what will lapse is worth nothing any more to the running period.
    assert effective_balance(globex, "USD", ended).effective == 45
    use(globex, ended, input_tokens=100 * DOLLAR)
    assert running_bill(subscription, ended + timedelta(hours=1)).total_minor == 5500

    november = close_period(subscription, now=DECEMBER + GRACE)

    assert november.total_minor == 0
    lapsed = LedgerEntry.objects.get(account="expired")
    assert (lapsed.amount, lapsed.grant.period_start) == (12, OCTOBER)
    assert left(globex, DECEMBER + GRACE) == 45
    assert running_bill(subscription, DECEMBER + GRACE).total_minor == 5500


def test_it_is_never_shared_out_by_time(globex):
    small, large = with_credit("small", "5"), with_credit("large", "50")
    subscription = subscribed(globex, small, anchor=OCTOBER)
    change_plan(subscription, large, now=at(2026, 10, 16), at_once=True)
    grant_due_credit(at(2026, 10, 16))
    assert grants_of(subscription) == [(5, OCTOBER)]

    grant_due_credit(NOVEMBER)

    assert grants_of(subscription) == [(5, OCTOBER), (50, NOVEMBER)]


def test_a_paused_period_brings_none_until_the_pause_ends(globex):
    subscription = subscribed(globex, with_credit(), anchor=OCTOBER)
    pause(subscription, now=at(2026, 10, 20))
    assert grant_due_credit(at(2026, 11, 5)) == 0

    end_pause(subscription, now=at(2026, 11, 10))

    assert grant_due_credit(at(2026, 11, 10)) == 1
    assert CreditGrant.objects.get(period_start=NOVEMBER).expires_at == DECEMBER


def test_nothing_is_granted_after_the_end(globex):
    subscription = subscribed(globex, with_credit(), anchor=OCTOBER)
    cancel(subscription, now=at(2026, 10, 20))
    assert grant_due_credit(at(2026, 11, 5)) == 0


def test_another_plan_without_credit_brings_none(globex):
    subscription = subscribed(globex, with_credit(), anchor=OCTOBER)
    plain = catalogue.draft_version(catalogue.create_plan("plain", name="Plain", is_public=True), currency="USD")
    catalogue.add_rate_card(plain, label="Tokens", meters=TOKENS)
    change_plan(subscription, catalogue.publish_version(plain, now=LONG_AGO), now=at(2026, 10, 16))
    assert grant_due_credit(NOVEMBER) == 0


@pytest.mark.parametrize(
    "changes",
    [
        {"credit_amount": Decimal(0)},
        {"credit_amount": None, "credit_rolls_for": 1},
        {"credit_amount": Decimal(1), "credit_most_rolled": Decimal(1)},
        {"credit_amount": Decimal(1), "credit_rolls_for": 121},
    ],
)
def test_what_makes_no_sense_is_not_published(changes):
    version = catalogue.draft_version(catalogue.create_plan("odd", name="Odd"), currency="USD")
    catalogue.add_rate_card(version, label="Tokens", meters=TOKENS)
    for name, value in changes.items():
        setattr(version, name, value)
    version.save()
    with pytest.raises(PlanCreditInvalid):
        catalogue.publish_version(version, now=LONG_AGO)


def test_words_say_what_a_plan_brings_and_copies_bring_the_same():
    version = with_credit(rolls_for=2, most="30")
    words = plan_words.offer_of(catalogue.copy_version(version)).components[-1]
    assert (words.label, words.price) == ("Credit included", "$20.00 a month")
    assert words.details == (
        "Pays for usage, not for fees",
        "What is left stays for 2 more periods, at most $30.00 in all",
    )


def test_operators_say_what_a_draft_brings(client_for, operator):
    draft = catalogue.draft_version(catalogue.create_plan("pro", name="Pro"), currency="USD")
    desk, page = client_for(operator), f"/admin/billing/planversion/{draft.pk}/change/"
    values = {"currency": "USD", "cadence": "month", "trial_days": "0", "allowed_models": ""}
    values |= {"components-TOTAL_FORMS": "0", "components-INITIAL_FORMS": "0"}
    credit = {"credit_amount": "20", "credit_priority": "50", "credit_rolls_for": "1", "credit_most_rolled": "30"}

    refused = desk.post(page, values | credit | {"credit_rolls_for": "0"}).content.decode()
    desk.post(page, values | credit)

    assert "Only credit that stays for other periods has a maximum" in refused
    draft.refresh_from_db()
    assert (draft.credit_amount, draft.credit_rolls_for, draft.credit_most_rolled) == (20, 1, 30)


@pytest.mark.django_db(transaction=True)
def test_many_sweeps_and_closers_at_once_grant_once(gus):
    price("input_tokens", "1.00")
    version = with_credit()
    subscriptions = [
        subscribed(factories.organisation(f"Org {number}", gus), version, anchor=OCTOBER) for number in range(4)
    ]
    later = NOVEMBER + GRACE

    in_parallel(lambda number: (close_ended if number % 2 else grant_due_credit)(later), range(8))

    assert [grants_of(one) for one in subscriptions] == [[(20, OCTOBER), (20, NOVEMBER)]] * 4
