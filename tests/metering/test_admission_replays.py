"""A call that is asked about again: the first answer, whatever the second question says."""

from datetime import UTC, datetime
from decimal import Decimal

from tests.metering.admission_world import ask, estimate, quota

NOW = datetime(2026, 11, 15, 12, 0, 30, tzinfo=UTC)


def test_it_is_quoted_what_it_was_quoted_at(acme, acme_key):
    estimate(acme, "output_tokens", "0.001", model="m-1", valid_from=NOW)
    quota(acme, "USD", 1, "day", now=NOW)
    first = ask(acme_key, call_id="c", now=NOW, model="m-1", output_tokens=100)
    estimate(acme, "output_tokens", "0.005", model="m-2", valid_from=NOW)
    for model, tokens in (("m-2", 7), ("m-3", 100), ("m-1", 100)):
        again = ask(acme_key, call_id="c", now=NOW, model=model, output_tokens=tokens)
        assert (again.id, again.estimate) == (first.id, first.estimate)
        assert (again.quoted, again.currency) == (first.quoted, "USD") == (Decimal("0.1"), "USD")


def test_what_was_quoted_nothing_stays_so(acme, acme_key):
    assert ask(acme_key, call_id="c", now=NOW, output_tokens=5).quoted is None
    estimate(acme, "output_tokens", "0.001", valid_from=NOW)
    again = ask(acme_key, call_id="c", now=NOW, output_tokens=5)
    assert (again.quoted, again.currency) == (None, "")
