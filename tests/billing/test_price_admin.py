"""The operators' pages of the price book: history, changes with a preview, files, proposals, corrections, work list."""

from datetime import UTC, datetime
from decimal import Decimal

import pytest
import time_machine
from django.core.files.uploadedfile import SimpleUploadedFile

from accounts.models import AuditEntry
from billing.invoicing import close_period, running_bill
from billing.models import Price, PriceCorrection, PriceProposal
from tests.billing.billing_builders import at, payg, price, subscribed, use

pytestmark = pytest.mark.django_db

NOW = datetime(2026, 11, 20, 10, 7, tzinfo=UTC)
BOOK = "/admin/billing/price/"
PROPOSALS = "/admin/billing/priceproposal/"


@pytest.fixture(autouse=True)
def _today():
    with time_machine.travel(NOW, tick=True):
        yield


@pytest.fixture
def browser(operator, client_for):
    return client_for(operator)


def shown(response) -> str:
    assert response.status_code == 200, response.status_code
    return response.content.decode()


def test_a_price_shows_everything_ever_said_of_its_meter_and_model(browser):
    first = price("input_tokens", "2", model="gpt-4o")
    price("input_tokens", "3", model="gpt-4o")
    price("input_tokens", "9", model="other")
    page = shown(browser.get(f"{BOOK}{first.pk}/change/"))
    assert "Everything ever said about this meter and model" in page
    history = page.split('id="price-history"')[1]
    assert "$2.00 / 1M" in history
    assert "$3.00 / 1M" in history
    assert "$9.00" not in history
    assert "superseded" in history


def test_a_price_is_added_under_conditions_and_told_when_it_is_never_met(browser):
    values = {"kind": "list", "meter": price("input_tokens", "2").meter_id, "model": "gpt-4o", "currency": "usd"}
    values |= {"amount": "1", "scale": "1000000", "valid_from_0": "2026-12-01", "valid_from_1": "00:00", "source": "me"}
    values |= {"service_tier": "batch", "context_above": "200000"}
    page = shown(browser.post(f"{BOOK}add/", values, follow=True))
    added = Price.objects.get(service_tier="batch")
    assert (added.context_above, added.currency, added.amount) == (200_000, "USD", 1)
    assert "Input tokens are not kept apart by context tier" in page
    refused = shown(browser.post(f"{BOOK}add/", values | {"context_up_to": "100"}))
    assert "must lie above its lower end" in refused


def test_a_change_is_shown_before_it_is_made(browser, globex):
    old = price("input_tokens", "2", model="gpt-4o")
    use(globex, at(2026, 11, 18), input_tokens=3_000_000)
    subscription = subscribed(globex, payg(), anchor=at(2026, 9))
    close_period(subscription, now=at(2026, 10, 2))
    address = f"{BOOK}{old.pk}/change-price/"
    assert "New amount" in shown(browser.get(address))
    values = {"amount": "5", "scale": "1000000", "valid_from": "2026-09-15 00:00"}

    preview = shown(browser.post(address, values))

    assert "$6.00" in preview
    assert "$15.00" in preview
    assert "1 closed period reaches into that time and keeps the prices of then" in preview
    assert Price.objects.count() == 1
    browser.post(address, values | {"confirmed": "yes"})
    new = Price.objects.latest("pk")
    assert (new.amount, new.valid_from, new.supersedes) == (5, at(2026, 9, 15), None)
    assert running_bill(subscription, NOW).total_exact == 15
    assert AuditEntry.objects.filter(action="price.added").count() == 2


def test_a_change_off_the_quarter_hour_is_refused_in_words(browser):
    old = price("input_tokens", "2", model="gpt-4o")
    values = {"amount": "5", "scale": "1000000", "valid_from": "2026-09-15 00:05"}
    assert "quarter hour" in shown(browser.post(f"{BOOK}{old.pk}/change-price/", values))


def test_a_price_is_taken_back_after_a_question(browser):
    old = price("input_tokens", "2", model="gpt-4o")
    address = f"{BOOK}{old.pk}/withdrawal/"
    assert "Take it back" in shown(browser.get(address))
    browser.post(address, {"confirmed": "yes"})
    assert not Price.objects.standing().exists()
    assert "Another row has taken" in shown(browser.post(address, {"confirmed": "yes"}, follow=True))


def test_book_is_downloaded_and_a_file_becomes_a_proposal(browser):
    price("input_tokens", "2", model="gpt-4o")
    file = b"".join(browser.get(f"{BOOK}file/").streaming_content).decode()
    assert "input_tokens,gpt-4o,USD,2," in file
    upload = SimpleUploadedFile("new.csv", file.replace(",2,", ",3,").encode())
    page = shown(browser.post(f"{PROPOSALS}upload/", {"file": upload}, follow=True))
    proposal = PriceProposal.objects.get()
    assert "$3.00 / 1M" in page
    assert proposal.source == "new.csv"
    row = proposal.rows.get()
    browser.post(f"{PROPOSALS}{proposal.pk}/change/", {"accept": "yes", "choice": "rows", "rows": [row.pk]})
    assert Price.objects.standing().get().amount == 3


def test_a_bad_file_is_refused_with_its_lines(browser):
    upload = SimpleUploadedFile(
        "bad.csv", b"meter,currency,amount,valid_from\ninput_tokens,USD,x,2026-01-01T00:00:00Z\n"
    )
    assert "line 2: amount" in shown(browser.post(f"{PROPOSALS}upload/", {"file": upload}))
    upload = SimpleUploadedFile("bad.csv", b"\xff\xfe\x00")
    assert "not text in UTF-8" in shown(browser.post(f"{PROPOSALS}upload/", {"file": upload}))


def test_published_prices_are_compared_and_only_what_is_chosen_is_added(browser):
    assert "Only models like" in shown(browser.get(f"{PROPOSALS}published/"))
    values = {"provider": "openai", "kind": "cost", "models": "gpt-4.1"}
    page = shown(browser.post(f"{PROPOSALS}published/", values, follow=True))
    assert "web_searches_kcount has no meter here" in page
    assert "openai: gpt-4.1" in page
    assert "Output tokens" in page
    assert "are not kept apart by" not in page  # its prices for batch apply as they are
    proposal = PriceProposal.objects.get()
    row = proposal.rows.get(meter__key="input_tokens", service_tier="")
    browser.post(f"{PROPOSALS}{proposal.pk}/change/", {"accept": "yes", "choice": "rows", "rows": [row.pk]})
    assert Price.objects.get().amount == Decimal(2)
    assert "not taken" in shown(browser.get(f"{PROPOSALS}{proposal.pk}/change/"))
    assert "Accepted" in shown(browser.get(PROPOSALS))


def test_a_proposal_can_be_discarded(browser):
    browser.post(f"{PROPOSALS}published/", {"provider": "openai", "kind": "list", "models": "gpt-4.1"})
    proposal = PriceProposal.objects.get()
    browser.post(f"{PROPOSALS}{proposal.pk}/change/", {"discard": "yes"})
    assert PriceProposal.objects.get().state == "discarded"
    assert not Price.objects.exists()


def test_closed_periods_are_corrected_after_a_look_at_the_differences(browser, globex):
    price("input_tokens", "2", model="gpt-4o")
    subscription = subscribed(globex, payg(), anchor=at(2026, 9))
    use(globex, at(2026, 9, 18), input_tokens=3_000_000)
    close_period(subscription, now=at(2026, 10, 2))
    price("input_tokens", "3", model="gpt-4o")
    address = "/admin/billing/pricecorrection/correction/"
    values = {"start": "2026-09-01 00:00", "end": "2026-10-01 00:00", "reason": "Listed wrongly"}
    assert "correction-preview" not in shown(browser.get(address))
    assert "$3.00" in shown(browser.post(address, values)).split("correction-preview")[1]
    assert not PriceCorrection.objects.exists()
    browser.post(address, values | {"confirmed": "yes"})
    correction = PriceCorrection.objects.get()
    assert "Listed wrongly" in shown(browser.get("/admin/billing/pricecorrection/"))
    assert "KT-2026-" in shown(browser.get(f"/admin/billing/pricecorrection/{correction.pk}/change/"))
    assert running_bill(subscription, at(2026, 10, 20)).total_exact == 3


def test_work_list_leads_to_a_filled_in_form(browser, globex):
    subscribed(globex, payg(), anchor=at(2026, 11))
    use(globex, at(2026, 11, 18), "gpt-4.1", input_tokens=3_000_000)
    page = shown(browser.get(f"{BOOK}unpriced/"))
    assert "as published" in page
    query = page.split(f"{BOOK}add/?")[1].split('"')[0].replace("&amp;", "&")
    form = shown(browser.get(f"{BOOK}add/?{query}"))
    assert 'value="gpt-4.1"' in form
    assert "1" in next(gauge for gauge in shown(browser.get("/admin/")).split("<li") if "Used without a price" in gauge)


def test_customers_see_none_of_it(olivia, client_for):
    customer = client_for(olivia)
    for address in (f"{BOOK}unpriced/", f"{BOOK}file/", f"{PROPOSALS}published/", f"{PROPOSALS}upload/"):
        assert customer.get(address).status_code == 302
