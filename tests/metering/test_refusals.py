"""What a caller reads who was refused: whose limit it is, and whether a smaller call could still run."""

from datetime import UTC, datetime

from tests.metering.admission_world import ask, estimate, quota

NOW = datetime(2026, 11, 15, 12, 0, 30, tzinfo=UTC)


def test_a_refusal_says_whose_limit_it_is_and_what_is_left(acme, acme_key):
    own = {"scope": "api_key", "api_key": acme_key.api_key}
    quota(acme, "output_tokens", 100, "day", now=NOW, **own)
    assert ask(acme_key, now=NOW, output_tokens=60).is_allowed
    for asked, left in ((60, "has 40 left, too little for this call"), (40, ""), (1, "is reached")):
        refusal = ask(acme_key, now=NOW, output_tokens=asked).refusal
        said = f"The limit of 100 output tokens per day for this API key {left}; it starts anew at "
        assert refusal.message.startswith(said) if refusal else not left, refusal


def test_what_is_left_of_spend_is_told_to_the_cent_and_never_rounded_up(acme, acme_key):
    estimate(acme, "output_tokens", "0.001", valid_from=NOW)
    quota(acme, "USD", 1, "day", now=NOW)
    assert ask(acme_key, now=NOW, output_tokens=991).is_allowed
    assert "is reached" in ask(acme_key, now=NOW, output_tokens=10).refusal.message
    quota(acme, "USD", "0.999", "month", now=NOW)
    assert "has 0.99 left" in ask(acme_key, now=NOW, output_tokens=5000).refusal.message


def test_a_limit_of_nothing_says_that_it_is_one(acme, acme_key):
    quota(acme, "requests", 0, now=NOW, set_by="plan")
    assert ask(acme_key, now=NOW).refusal.message == "A limit of 0 requests lets no call through."
