"""Proposals: what a source says and the price book does not, and how it becomes prices."""

from datetime import UTC, datetime
from decimal import Decimal
from io import StringIO
from pathlib import Path

import pytest
import time_machine
from django.core.management import call_command

from accounts.models import AuditEntry
from billing import rating
from billing.models import Price, PriceKind, PriceProposal
from billing.periods import Period
from billing.price_book import add_price, cost_book
from billing.price_files import PriceFileInvalid, read_prices_file, write_prices_file
from billing.price_proposals import (
    NothingToPropose,
    ProposalOutdated,
    ProposalSettled,
    UnknownProvider,
    accept_proposal,
    discard_proposal,
    propose_published,
    propose_rows,
)
from billing.published_prices import SINCE_EVER, SOURCE
from tests.billing.billing_builders import LONG_AGO, at, meter, use

pytestmark = pytest.mark.django_db

NOW = datetime(2026, 11, 20, 10, 7, tzinfo=UTC)
NOVEMBER = Period(at(2026, 11), at(2026, 12))


@pytest.fixture(autouse=True)
def _today():
    with time_machine.travel(NOW, tick=True):
        yield


def cost(meter_key: str, amount: str, model: str = "gpt-4.1", source: str = "operator", **more) -> Price:
    return add_price(
        meter(meter_key),
        model=model,
        currency="USD",
        amount=Decimal(amount),
        valid_from=more.pop("valid_from", LONG_AGO),
        kind=PriceKind.COST,
        source=source,
        **more,
    )


def propose(**more) -> PriceProposal:
    return propose_published(now=NOW, **{"provider": "openai", "models": ["gpt-4.1"], **more})


def rows(proposal: PriceProposal) -> list[tuple[str, str, str, Decimal]]:
    return [(row.change, row.meter.key, row.holds_for, row.amount) for row in proposal.rows.select_related("meter")]


def test_prices_of_a_model_without_any_are_new_and_hold_since_ever():
    proposal = propose()
    assert ("new", "input_tokens", "", 2) in rows(proposal)
    assert ("new", "cache_read_tokens", "", Decimal("0.5")) in rows(proposal)
    assert ("new", "input_tokens", "batch", 1) in rows(proposal)
    assert ("new", "output_tokens", "priority", 14) in rows(proposal)
    assert proposal.rows.first().valid_from == SINCE_EVER
    assert not Price.objects.exists()


def test_what_has_no_meter_is_listed_and_not_forgotten():
    assert {"model": "gpt-4.1", "detail": "web_searches_kcount has no meter here"} in propose().unmappable


def test_accepted_rows_price_usage_as_costs():
    accept_proposal(propose(), now=NOW, actor="test")
    book = cost_book("USD", NOVEMBER)
    batch = rating.labels_of({"service_tier": "batch"})
    assert book.price("input_tokens", model="gpt-4.1", instant=NOW).amount == 2
    assert book.price("input_tokens", model="gpt-4.1", instant=NOW, labels=batch).amount == 1
    assert {price.source for price in Price.objects.all()} == {SOURCE}
    with pytest.raises(NothingToPropose):
        propose()


def test_a_price_that_differs_changes_from_now_on_and_leaves_the_past_alone():
    ours = cost("input_tokens", "9")
    proposal = propose()
    (changed,) = proposal.rows.filter(change="changed")
    assert (changed.amount, changed.instead_of, changed.valid_from) == (2, ours, at(2026, 11, 20, 10, 15))

    accept_proposal(proposal, now=NOW, selected=[changed.pk])

    book = cost_book("USD", NOVEMBER)
    assert book.price("input_tokens", model="gpt-4.1", instant=NOW).amount == 9
    assert book.price("input_tokens", model="gpt-4.1", instant=at(2026, 11, 21)).amount == 2
    assert Price.objects.count() == 2


def test_a_price_with_a_day_of_its_own_changes_on_that_day():
    cost("input_tokens", "9", "deepseek-v4-flash", valid_from=at(2026, 1))
    proposal = propose(provider="deepseek", models=["deepseek-v4-flash"])
    changed = proposal.rows.filter(change="changed", meter__key="input_tokens", windows="").get()
    assert changed.valid_from == at(2026, 9, 10)


def test_prices_by_the_hour_become_windows():
    proposal = propose(provider="deepseek", models=["deepseek-chat"])
    assert ("new", "input_tokens", "daily 00:30-16:30 UTC", Decimal("0.27")) in rows(proposal)


def test_tiers_by_length_become_conditions():
    proposal = propose(provider="google", models=["gemini-2.5-pro"])
    assert ("new", "output_tokens", "context above 200,000 tokens", 15) in rows(proposal)
    assert ("new", "input_tokens", "batch, context above 200,000 tokens", Decimal("1.25")) in rows(proposal)


def test_what_came_from_there_and_is_no_longer_published_is_gone_but_not_chosen():
    old = cost("cache_write_tokens", "4", source="genai-prices 0.1", conditions=rating.Conditions(cache_ttl="1h"))
    own = cost("cache_write_tokens", "4", conditions=rating.Conditions(cache_ttl="12h"))
    proposal = propose()
    (gone,) = proposal.rows.filter(change="gone")
    assert (gone.instead_of, gone.is_selected, gone.valid_until) == (old, False, at(2026, 11, 20, 10, 15))

    accept_proposal(proposal, now=NOW, selected=[gone.pk])

    assert list(Price.objects.standing().order_by("pk").values_list("valid_until", flat=True)) == [
        None,
        at(2026, 11, 20, 10, 15),
    ]
    assert Price.objects.standing().filter(pk=own.pk).exists()


def test_models_in_use_are_proposed_under_the_names_that_they_have_in_usage(globex):
    use(globex, at(2026, 11, 3), "gpt-4.1-2025-04-14", input_tokens=5)
    use(globex, at(2026, 11, 3), "made-up-model-of-nobody", input_tokens=5)
    proposal = propose_published(now=NOW)
    assert {row.model for row in proposal.rows.all()} == {"gpt-4.1-2025-04-14"}
    assert {"model": "made-up-model-of-nobody", "detail": "not published"} in proposal.unmappable


def test_published_prices_can_be_list_prices():
    accept_proposal(propose(kind="list"), now=NOW)
    assert set(Price.objects.values_list("kind", flat=True)) == {"list"}


def test_a_proposal_is_decided_once():
    proposal = propose()
    discard_proposal(proposal, now=NOW, actor="test")
    with pytest.raises(ProposalSettled):
        accept_proposal(proposal, now=NOW)
    assert not Price.objects.exists()
    assert AuditEntry.objects.filter(action="price_proposal.discarded").count() == 1


def test_a_proposal_that_the_book_has_overtaken_is_refused_whole():
    cost("input_tokens", "9")
    proposal = propose()
    cost("input_tokens", "8")
    with pytest.raises(ProposalOutdated):
        accept_proposal(proposal, now=NOW)
    assert Price.objects.count() == 2
    assert PriceProposal.objects.get().state == "open"


def test_unknown_provider_is_refused():
    with pytest.raises(UnknownProvider):
        propose(provider="nobody")


def test_every_accepted_row_is_audited():
    added = accept_proposal(propose(), now=NOW, actor="test")
    assert AuditEntry.objects.filter(action="price.added").count() == len(added)
    assert AuditEntry.objects.get(action="price_proposal.accepted").details == {"added": len(added)}


def test_price_book_goes_out_as_a_file_and_comes_back_unchanged(tmp_path: Path):
    cost("input_tokens", "9", conditions=rating.Conditions("batch", 200_000, 400_000, "1h", "eu"))
    cost("output_tokens", "0.000000000001", valid_until=at(2027, 1), windows="Mon-Fri 01:00-04:00, 06:00-10:00 UTC")
    lines = list(write_prices_file(Price.objects.select_related("meter").order_by("pk")))
    wanted = read_prices_file(lines)
    assert [row.amount for row in wanted] == [9, Decimal("0.000000000001")]
    with pytest.raises(NothingToPropose):
        propose_rows(wanted, source="prices.csv", now=NOW)

    file = tmp_path / "prices.csv"
    call_command("export_prices", str(file), stdout=StringIO())
    assert file.read_text().splitlines() == [line.strip() for line in lines]
    file.write_text(file.read_text().replace(",9,", ",10,"))
    call_command("import_prices", "--file", str(file), "--accept", stdout=StringIO())
    assert sorted(Price.objects.standing().values_list("amount", flat=True)) == [Decimal("0.000000000001"), 10]


def test_a_file_with_one_bad_line_is_refused_whole():
    lines = [
        "meter,model,currency,amount,valid_from",
        "input_tokens,a,USD,1,2026-11-01T00:00:00Z",
        "input_tokens,b,USD,NaN,2026-11-01T00:00:00Z",
        "no_meter,c,USD,1,2026-11-01T00:00:00Z",
        "input_tokens,d,USD,1,2026-11-01T00:07:00Z",
        "input_tokens,e,USD,1,2026-11-01T00:00",
        "input_tokens,f,XXX,1,2026-11-01T00:00:00Z",
    ]
    with pytest.raises(PriceFileInvalid) as refused:
        read_prices_file(lines)
    assert [f"line {line}" in refused.value.sentence for line in range(2, 8)] == [False, True, True, True, True, True]
    with pytest.raises(PriceFileInvalid, match="no column currency, amount, valid_from"):
        read_prices_file(["meter,model"])


def test_command_proposes_and_accepts_only_when_told():
    shown = StringIO()
    call_command("import_prices", "--provider=openai", "--models", "gpt-4.1", "--json", stdout=shown)
    assert '"price": "$2.00 per 1,000,000"' in shown.getvalue()
    assert not Price.objects.exists()
    proposal = PriceProposal.objects.get()
    call_command("import_prices", "--proposal", proposal.public_id, "--accept", stdout=StringIO())
    assert Price.objects.count() == proposal.rows.count()
