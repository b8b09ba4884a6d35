"""GET /v1/events: a sender asks what became of an event."""

import json
from datetime import timedelta
from urllib.parse import quote

import pytest

from accounts.models import Scope
from tests import factories
from tests.metering.conftest import NOW, take
from tests.metering.usage_world import correction, fold_all

pytestmark = pytest.mark.django_db


@pytest.fixture
def ask(api, acme_access_token):
    def get(event_id, *, source="gateway", secret=None, code=200, **params):
        answer = api(secret or acme_access_token.secret).get("/v1/events", {"source": source, "id": event_id} | params)
        assert answer.status_code == code, answer.content
        return json.loads(answer.content, parse_float=str)

    return get


def test_an_accepted_event_says_what_it_feeds_and_where(ask, draft, acme_key):
    then = NOW - timedelta(minutes=8)
    take(draft("1", input_tokens=10, output_tokens="0.50", time=then))
    facts = ask("1")
    accepted = facts["acceptance"]
    assert (facts["source"], facts["id"], facts["verdict"], facts["refusals"]) == ("gateway", "1", "accepted", [])
    assert accepted["folded_at"] is None
    assert accepted["data"] == {"model": "m-1", "input_tokens": 10, "output_tokens": "0.50"}
    assert (accepted["api_key"], accepted["format"]) == (acme_key.api_key.public_id, "test")
    assert (accepted["time"], accepted["received_at"]) == ("2026-11-15T11:52:00Z", "2026-11-15T12:00:00Z")
    assert [(one["meter"], one["model"], one["value"]) for one in accepted["feeds"]] == [
        ("input_tokens", "m-1", "10"),
        ("output_tokens", "m-1", "0.50"),
        ("requests", "m-1", "1"),
    ]
    assert {(one["interval_start"], one["interval_end"]) for one in accepted["feeds"]} == {
        ("2026-11-15T11:45:00Z", "2026-11-15T12:00:00Z")
    }
    fold_all(NOW)
    assert ask("1")["acceptance"]["folded_at"] == "2026-11-15T12:00:00Z"


def test_corrections_and_what_they_correct_name_each_other(ask, draft, acme_key):
    subject, then = acme_key.api_key.public_id, NOW - timedelta(days=2)
    take(draft("1", input_tokens=10, time=then))
    take(correction(subject, "1", NOW, event_id="a", data={"model": "m-2", "input_tokens": 4}))
    take(correction(subject, "a", NOW, event_id="v"))
    first, second, third = (ask(name)["acceptance"] for name in ("1", "a", "v"))
    assert [one["feeds"] for one in (first, second, third)] == [[], [], []]
    assert first["corrected_by"] == {"source": "gateway", "id": "a", "type": "kilotoken.amendment"}
    assert second["corrects"] == {"source": "gateway", "id": "1", "type": "ai.usage"}
    assert second["corrected_by"] == {"source": "gateway", "id": "v", "type": "kilotoken.void"}
    assert (third["corrects"]["id"], third["corrected_by"]) == ("a", None)


def test_an_amendment_counts_where_the_original_did(ask, draft, acme_key):
    take(draft("1", input_tokens=10, time=NOW - timedelta(days=2)))
    take(correction(acme_key.api_key.public_id, "1", NOW, event_id="a", data={"model": "m-2", "input_tokens": 4}))
    accepted = ask("a")["acceptance"]
    assert accepted["time"] == "2026-11-15T12:00:00Z"
    assert (accepted["feeds"][0]["value"], accepted["feeds"][0]["model"]) == ("4", "m-2")
    assert accepted["feeds"][0]["interval_start"] == "2026-11-13T12:00:00Z"


def test_a_conflict_is_told_beside_what_was_accepted(ask, draft):
    take(draft("1", input_tokens=10))
    take(draft("1", input_tokens=11))
    facts = ask("1")
    assert facts["verdict"] == "accepted"
    assert [(one["verdict"], one["state"]) for one in facts["refusals"]] == [("conflict", "open")]


def test_a_rejected_event_gives_its_reasons(ask, draft):
    take(draft("1", input_tokens="many"))
    take(draft("1", input_tokens=1, time=NOW - timedelta(days=400)))
    facts = ask("1")
    assert (facts["verdict"], facts["acceptance"]) == ("rejected", None)
    assert {one["reason"] for one in facts["refusals"]} == {"invalid_value", "too_old"}


def test_what_never_arrived_is_404(ask, draft):
    take(draft("1"))
    assert ask("2", code=404)["code"] == "unknown_event"
    assert ask("1", source="other", code=404)["code"] == "unknown_event"
    assert ask("1\x00", code=400)["code"] == "bad_request"
    assert ask("", code=400)["code"] == "event_required"


def test_another_organisations_event_does_not_exist(ask, draft, globex):
    take(draft("1"), draft("2", input_tokens="many"))
    secret = factories.access_token(globex).secret
    for name in ("1", "2"):
        ask(name, secret=secret, code=404)
        ask(name, secret=secret, organisation="acme", code=404)


def test_a_service_token_names_the_organisation_and_sees_what_is_nobodys(ask, draft, service_token):
    take(draft("1"), draft("2", subject="key_nobody"))
    assert ask("1", secret=service_token.secret, organisation="acme")["verdict"] == "accepted"
    assert ask("1", secret=service_token.secret, code=400)["code"] == "organisation_required"
    [refusal] = ask("2", secret=service_token.secret, organisation="acme")["refusals"]
    assert refusal["reason"] == "unknown_subject"
    ask("2", code=404)


def test_a_sender_may_ask_and_one_who_only_reads_bills_may_not(ask, draft, acme):
    take(draft("1"))
    sender = factories.service_token(scopes=[Scope.EVENTS_WRITE])
    assert ask("1", secret=sender.secret, organisation="acme")["verdict"] == "accepted"
    clerk = factories.access_token(acme, scopes=[Scope.BILLING_READ])
    assert ask("1", secret=clerk.secret, code=403)["code"] == "missing_scope"


def test_source_and_id_can_stand_in_the_path(api, acme_access_token, draft):
    take(draft("a/b"), draft("ü?&"))
    client = api(acme_access_token.secret)
    assert client.get("/v1/events/gateway/a/b").json()["verdict"] == "accepted"
    assert client.get("/v1/events/gateway/%C3%BC%3F%26").json()["id"] == "ü?&"
    assert client.get("/v1/events/gateway/none").status_code == 404


def test_sources_with_slashes_can_stand_in_the_path(api, acme_access_token, draft):
    source = "https://gw.example/eu//1/"
    take(draft("a/b", source=source), draft("refused/1", source=source, input_tokens="x"))
    client = api(acme_access_token.secret)
    facts = client.get(f"/v1/events/{quote(source, safe='')}/{quote('a/b', safe='')}").json()
    assert (facts["source"], facts["id"], facts["verdict"]) == (source, "a/b", "accepted")
    assert client.get(f"/v1/events/{quote(source, safe='')}/refused/1").json()["verdict"] == "rejected"
    assert client.get(f"/v1/events/{quote(source, safe='')}/b").status_code == 404


def test_a_path_that_names_two_events_is_not_guessed(api, acme_access_token, draft):
    take(draft("b/c", source="a"), draft("c", source="a/b"))
    client = api(acme_access_token.secret)
    assert client.get("/v1/events/a/b/c").json()["code"] == "ambiguous_event"
    assert client.get("/v1/events/a%2Fb/c").status_code == 409
    assert client.get("/v1/events", {"source": "a/b", "id": "c"}).json()["source"] == "a/b"


def test_a_path_without_a_name_or_with_nothing_but_slashes_finds_nothing(api, acme_access_token, acme):
    client = api(acme_access_token.secret)
    for path in ("a", "a/", "/" * 500, "a/" * 500, "%00/a"):
        assert client.get(f"/v1/events/{path}").status_code in {400, 404}, path


def test_a_gateway_asks_by_the_subject_that_it_sent(ask, draft, acme_key, service_token):
    take(draft("1", input_tokens=10))
    take(draft("2", input_tokens="many"))
    secret = service_token.secret
    for subject in (acme_key.api_key.public_id, acme_key.digest, acme_key.api_key.organisation.public_id):
        assert ask("1", secret=secret, subject=subject)["acceptance"]["api_key"] == acme_key.api_key.public_id
    assert ask("2", secret=secret, subject=acme_key.digest)["verdict"] == "rejected"
    assert ask("1", secret=secret, subject="nobody", code=404)["code"] == "unknown_subject"
    assert ask("1", secret=secret, code=400)["code"] == "organisation_required"


def test_a_subject_leads_nobody_to_the_events_of_another(ask, api, draft, acme_key, globex, service_token):
    take(draft("1", input_tokens=10))
    theirs = factories.access_token(globex).secret
    assert ask("1", secret=theirs, subject=acme_key.api_key.public_id, code=404)["code"] == "unknown_event"
    foreign = ask("1", secret=service_token.secret, organisation="globex", subject=acme_key.digest, code=404)
    assert foreign["code"] == "unknown_event"
    found = api(service_token.secret).get(f"/v1/events/gateway/1?subject={acme_key.digest}")
    assert found.status_code == 200
    assert found.json()["bill_lines"] == []
