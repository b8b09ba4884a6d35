"""The price book as it stood: later rows change no past, and what an operator's correction changes."""

from datetime import datetime
from decimal import Decimal
from io import StringIO
from itertools import pairwise

import pytest
import time_machine
from django.core.management import call_command
from django.db import DatabaseError, transaction

from accounts.models import AuditEntry
from billing.invoicing import close_period, running_bill
from billing.models import CorrectedInvoice, Invoice, Price, PriceCorrection, Subscription
from billing.periods import Period
from billing.price_book import PriceSuperseded, add_price, book_known_at, price_book
from billing.price_corrections import NothingToCorrect, ReasonMissing, correct_prices, differences
from tests.billing.billing_builders import LONG_AGO, at, meter, payg, price, subscribed, use

SEPTEMBER, OCTOBER, NOVEMBER = at(2026, 9), at(2026, 10), at(2026, 11)
AFTER = [at(2026, 10, 1, 2), at(2026, 11, 1, 2), at(2026, 12, 1, 2)]


@pytest.fixture
def subscription(globex) -> Subscription:
    price("input_tokens", "2.00", model="gpt-4o")
    return subscribed(globex, payg(), anchor=SEPTEMBER)


def adjusted(invoice: Invoice) -> list[Decimal]:
    return [line.amount_exact for line in invoice.lines.all() if line.kind == "adjustment"]


def correct(start: datetime = SEPTEMBER, end: datetime = OCTOBER, **more) -> PriceCorrection:
    return correct_prices(start, end, **{"reason": "Listed wrongly", "now": at(2026, 10, 10), **more})


def test_price_that_became_known_later_does_not_change_a_closed_period(globex, subscription):
    use(globex, at(2026, 9, 3), input_tokens=10_000_000)
    close_period(subscription, now=AFTER[0])
    price("input_tokens", "1.00", model="gpt-4o")

    assert running_bill(subscription, at(2026, 10, 20)).lines == ()
    assert adjusted(close_period(subscription, now=AFTER[1])) == []


def test_late_usage_of_a_closed_period_costs_what_it_did_then(globex, subscription):
    use(globex, at(2026, 9, 3), input_tokens=10_000_000)
    close_period(subscription, now=AFTER[0])
    price("input_tokens", "1.00", model="gpt-4o")
    use(globex, at(2026, 9, 28), input_tokens=1_000_000)
    use(globex, at(2026, 10, 2), input_tokens=1_000_000)

    second = close_period(subscription, now=AFTER[1])

    assert adjusted(second) == [2]
    assert second.total_exact == 3


def test_usage_that_had_no_price_stays_unpriced_until_it_is_corrected(globex, subscription):
    use(globex, at(2026, 9, 3), "o9", input_tokens=10_000_000)
    close_period(subscription, now=AFTER[0])
    price("input_tokens", "4.00", model="o9")

    before = running_bill(subscription, at(2026, 10, 20))
    assert (before.total_exact, [one.model for one in before.unpriced]) == (0, ["o9"])
    correct()
    assert adjusted(close_period(subscription, now=AFTER[1])) == [40]


def test_a_correction_reaches_beyond_the_late_window_and_is_billed_once(globex, subscription, settings):
    settings.LATE_WINDOW_DAYS = 5
    use(globex, at(2026, 9, 3), input_tokens=10_000_000)
    close_period(subscription, now=AFTER[0])
    close_period(subscription, now=AFTER[1])
    price("input_tokens", "3.00", model="gpt-4o")
    correction = correct(now=at(2026, 11, 10))

    third = close_period(subscription, now=AFTER[2])
    fourth = close_period(subscription, now=at(2027, 1, 1, 2))

    assert sorted(adjusted(third)) == [-20, 30]
    assert adjusted(fourth) == []
    assert [row.difference for row in correction.invoices.all()] == [10]


def test_late_usage_after_a_correction_costs_the_corrected_price(globex, subscription):
    use(globex, at(2026, 9, 3), input_tokens=10_000_000)
    close_period(subscription, now=AFTER[0])
    price("input_tokens", "3.00", model="gpt-4o")
    correct()
    close_period(subscription, now=AFTER[1])
    use(globex, at(2026, 9, 30), input_tokens=1_000_000)
    price("input_tokens", "9.00", model="gpt-4o")

    assert adjusted(close_period(subscription, now=AFTER[2])) == [3]


def test_an_old_period_is_corrected_again_by_what_was_not_charged_yet(globex, subscription, settings):
    """2 a million at first, 3 by the correction on the second invoice, 5 by the one on the fourth."""
    settings.LATE_WINDOW_DAYS = 1
    use(globex, at(2026, 9, 3), input_tokens=10_000_000)
    close_period(subscription, now=AFTER[0])
    price("input_tokens", "3.00", model="gpt-4o")
    correct()
    assert sum(adjusted(close_period(subscription, now=AFTER[1]))) == 10
    close_period(subscription, now=AFTER[2])
    price("input_tokens", "5.00", model="gpt-4o")
    correct(now=at(2026, 12, 10))
    assert sum(adjusted(close_period(subscription, now=at(2027, 1, 1, 2)))) == 20


def test_two_corrections_before_the_next_invoice_are_billed_as_one(globex, subscription):
    use(globex, at(2026, 9, 3), input_tokens=10_000_000)
    close_period(subscription, now=AFTER[0])
    price("input_tokens", "3.00", model="gpt-4o")
    correct()
    price("input_tokens", "4.00", model="gpt-4o")
    correct(now=at(2026, 10, 12))

    assert sum(adjusted(close_period(subscription, now=AFTER[1]))) == 20


def test_correction_of_one_organisation_leaves_others_alone(globex, acme, subscription):
    other = subscribed(acme, subscription.phases.get().plan_version, anchor=SEPTEMBER)
    for organisation, own in ((globex, subscription), (acme, other)):
        use(organisation, at(2026, 9, 3), input_tokens=10_000_000)
        close_period(own, now=AFTER[0])
    price("input_tokens", "3.00", model="gpt-4o")

    correct(organisation=globex)

    assert sum(adjusted(close_period(subscription, now=AFTER[1]))) == 10
    assert adjusted(close_period(other, now=AFTER[1])) == []


def test_differences_are_shown_before_anything_is_changed(globex, subscription):
    use(globex, at(2026, 9, 3), input_tokens=10_000_000)
    invoice = close_period(subscription, now=AFTER[0])
    price("input_tokens", "3.00", model="gpt-4o")

    (found,) = differences(SEPTEMBER, OCTOBER)

    assert (found.invoice.number, found.amount, found.will_be_billed) == (invoice.number, 10, True)
    assert any("$3.00 per 1,000,000" in sentence for sentence in found.explanations)
    assert list(differences(NOVEMBER, at(2026, 12))) == []
    assert not PriceCorrection.objects.exists()


def test_correction_needs_a_reason_and_something_to_correct(subscription):
    with pytest.raises(ReasonMissing):
        correct(reason=" ")
    with pytest.raises(NothingToCorrect):
        correct()


def test_correction_is_audited_and_never_changed(globex, subscription):
    use(globex, at(2026, 9, 3), input_tokens=10_000_000)
    close_period(subscription, now=AFTER[0])
    price("input_tokens", "3.00", model="gpt-4o")
    correction = correct(actor="test")

    entry = AuditEntry.objects.get(action="price_correction.made")
    assert (entry.subject_id, entry.details["invoices"]) == (correction.public_id, 1)
    for rows in (PriceCorrection.objects.all(), CorrectedInvoice.objects.all()):
        for change in (rows.delete, lambda rows=rows: rows.update(id=9)):
            with pytest.raises(DatabaseError), transaction.atomic():
                change()


def test_command_shows_first_and_corrects_when_told(globex, subscription):
    use(globex, at(2026, 9, 3), input_tokens=10_000_000)
    close_period(subscription, now=AFTER[0])
    price("input_tokens", "3.00", model="gpt-4o")
    span = ["--from=2026-09-01T00:00:00Z", "--until=2026-10-01T00:00:00Z"]

    shown = StringIO()
    call_command("correct_prices", *span, "--json", stdout=shown)
    assert '"difference": "10"' in shown.getvalue()
    assert not PriceCorrection.objects.exists()
    call_command("correct_prices", *span, "--apply", "--reason=Listed wrongly", stdout=StringIO())
    assert PriceCorrection.objects.get().organisation is None


@pytest.mark.django_db
def test_book_can_be_asked_for_as_it_stood_at_any_time():
    rows = [price("input_tokens", amount, model="gpt-4o") for amount in ("2", "3", "4")]
    month = Period(SEPTEMBER, OCTOBER)

    def amount(known_at: datetime | None) -> Decimal | None:
        row = price_book("USD", month, known_at=known_at).price("input_tokens", model="gpt-4o", instant=SEPTEMBER)
        return row and row.amount

    assert [amount(row.known_from) for row in rows] == [2, 3, 4]
    assert amount(None) == 4
    assert amount(at(2020, 1)) is None
    assert book_known_at() == rows[-1].known_from
    assert all(later.supersedes == earlier for earlier, later in pairwise(rows))


@pytest.mark.django_db
def test_no_two_rows_become_known_at_once():
    with time_machine.travel(NOVEMBER, tick=False):
        rows = [price("input_tokens", amount, model="gpt-4o") for amount in ("2", "3")]
    with time_machine.travel(OCTOBER, tick=False):
        rows.append(price("input_tokens", "4", model="gpt-4o"))
    assert rows[0].known_from == NOVEMBER
    assert rows[0].known_from < rows[1].known_from < rows[2].known_from


@pytest.mark.django_db
def test_a_price_that_is_taken_back_was_in_force_until_then():
    old = price("input_tokens", "2", model="gpt-4o")
    add_price(
        meter("input_tokens"),
        model="gpt-4o",
        currency="USD",
        amount=Decimal(2),
        valid_from=LONG_AGO,
        supersedes=old,
        is_withdrawn=True,
    )
    month = Period(SEPTEMBER, OCTOBER)
    asked = {"model": "gpt-4o", "instant": SEPTEMBER}
    assert price_book("USD", month).price("input_tokens", **asked) is None
    assert price_book("USD", month, known_at=old.known_from).price("input_tokens", **asked) is not None


@pytest.mark.django_db
def test_a_row_is_superseded_once():
    old = price("input_tokens", "2", model="gpt-4o")
    price("input_tokens", "3", model="gpt-4o")
    with pytest.raises(PriceSuperseded):
        add_price(
            meter("input_tokens"),
            model="gpt-4o",
            currency="USD",
            amount=Decimal(5),
            valid_from=SEPTEMBER,
            supersedes=old,
        )
    assert Price.objects.count() == 2
