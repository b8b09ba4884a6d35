from datetime import UTC, datetime, timedelta

import pytest

from metering.aggregation import fold_pending
from metering.drafts import make_draft
from metering.intake import accept
from metering.models import Event, RejectedEvent
from tests import factories

pytestmark = pytest.mark.django_db
EVENTS = "/api/v1/events"
CLOUDEVENT = "application/cloudevents+json"
NOW = datetime(2026, 11, 15, 12, 0, tzinfo=UTC)


def event(subject, **changes):
    members = {
        "specversion": "1.0",
        "id": "1",
        "source": "app",
        "type": "ai.usage",
        "subject": subject,
        "time": datetime.now(UTC).isoformat(),
        "data": {"model": "m-1", "input_tokens": 12},
    }
    return members | changes


def test_one_event_is_answered_with_204_and_counts_once(api, service_token, acme_key, acme):
    client = api(service_token.secret)
    for _ in range(2):
        response = client.post(EVENTS, event(acme_key.digest), content_type=CLOUDEVENT)
        assert (response.status_code, response.content) == (204, b"")
    assert Event.objects.get().organisation_id == acme.pk


def test_a_batch_keeps_what_it_must_reject(api, service_token, acme_key):
    batch = [event(acme_key.digest), event("customer-7", id="2"), event(acme_key.digest, id="3", type="other")]
    response = api(service_token.secret).post(EVENTS, batch, content_type="application/cloudevents-batch+json")
    assert response.status_code == 204
    assert (Event.objects.count(), RejectedEvent.objects.get().event_id) == (2, "2")


def test_litellms_tokens_feed_the_meters(api, service_token, acme_key):
    data = {"model": "gpt-5-mini", "cost": 0.1, "prompt_tokens": 100, "completion_tokens": 20}
    sent = event(acme_key.digest, type="litellm_tokens", data=data)
    assert api(service_token.secret).post(EVENTS, sent).status_code == 204
    stored = Event.objects.get()
    assert (stored.type, stored.data["input_tokens"], stored.data["output_tokens"]) == ("ai.usage", 100, 20)


def test_errors_are_problems(api, service_token, acme_access_token):
    for secret, body, status in [
        (service_token.secret, b"hello", 400),
        ("kt-service-unknown", b"{}", 401),
        (acme_access_token.secret, b"{}", 403),
    ]:
        response = api(secret).post(EVENTS, body)
        assert response.status_code == status
        assert response.headers["Content-Type"] == "application/problem+json"


# --- Queries ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def used(acme_key, acme):
    """Ten tokens an hour on 13 and 14 November (UTC), by model in turn; every sixth without a key."""
    start = datetime(2026, 11, 13, tzinfo=UTC)
    drafts = [
        make_draft(
            source="gateway",
            event_id=str(hour),
            type="ai.usage",
            subject=acme.public_id if hour % 6 == 0 else acme_key.digest,
            time=start + timedelta(hours=hour, minutes=5),
            data={"model": f"m-{hour % 2}", "input_tokens": 10},
        )
        for hour in range(48)
    ]
    accept(drafts, format="cloudevents", service_token_id=None, now=NOW)
    while fold_pending(now=NOW).batches:
        pass


@pytest.fixture
def query(api, acme_access_token, used):
    def get(key="input_tokens", secret=acme_access_token.secret, **params):
        params = {"from": "2026-11-13T00:00:00Z", "to": "2026-11-15T00:00:00Z"} | params
        return api(secret).get(f"/api/v1/meters/{key}/query", params)

    return get


def rows(response):
    assert response.status_code == 200, response.content
    return [(row["windowStart"], row["value"]) for row in response.json()["data"]]


def test_without_windows_there_is_one_sum(query):
    assert query().json() == {
        "from": "2026-11-13T00:00:00Z",
        "to": "2026-11-15T00:00:00Z",
        "data": [
            {
                "value": 480,
                "windowStart": "2026-11-13T00:00:00Z",
                "windowEnd": "2026-11-15T00:00:00Z",
                "subject": None,
                "groupBy": {},
            }
        ],
    }


def test_windows_are_those_of_utc_or_of_the_zone_that_is_named(query):
    assert rows(query(windowSize="DAY")) == [("2026-11-13T00:00:00Z", 240), ("2026-11-14T00:00:00Z", 240)]
    expected = [("2026-11-13T00:00:00Z", 230), ("2026-11-13T23:00:00Z", 240), ("2026-11-14T23:00:00Z", 10)]
    assert rows(query(windowSize="DAY", windowTimeZone="Europe/Berlin")) == expected
    kathmandu = rows(query(windowSize="HOUR", windowTimeZone="Asia/Kathmandu"))
    assert kathmandu[:2] == [("2026-11-13T00:00:00Z", 10), ("2026-11-13T00:15:00Z", 10)]
    assert sum(value for _, value in kathmandu) == 480
    assert rows(query(windowSize="MONTH")) == [("2026-11-13T00:00:00Z", 480)]


def test_groups_and_filters(query, acme, acme_key):
    by_model = query(groupBy="model").json()["data"]
    assert [(row["groupBy"], row["value"]) for row in by_model] == [({"model": "m-0"}, 240), ({"model": "m-1"}, 240)]
    by_subject = query(groupBy="subject").json()["data"]
    assert {row["subject"]: row["value"] for row in by_subject} == {
        acme.public_id: 80,
        acme_key.api_key.public_id: 400,
    }
    assert rows(query(subject=acme_key.digest))[0][1] == 400
    for spelling in ('{"model": "m-1"}', "{'model': 'm-1'}"):
        assert rows(query(filterGroupBy=spelling))[0][1] == 240
    assert rows(query(**{"filterGroupBy[model]": "m-2"})) == []


def test_a_service_token_names_the_subject(query, service_token, acme, acme_key):
    assert query(secret=service_token.secret).status_code == 400
    assert rows(query(secret=service_token.secret, subject=acme.public_id))[0][1] == 480
    assert rows(query(secret=service_token.secret, subject=acme_key.api_key.public_id))[0][1] == 400


def test_another_organisations_subjects_do_not_exist(query, globex):
    theirs = factories.api_key(globex)
    for subject in (theirs.digest, theirs.api_key.public_id, globex.public_id, "key_nobody"):
        response = query(subject=subject)
        assert (response.status_code, response.json()["code"]) == (404, "unknown_subject")
    token = factories.access_token(globex)
    assert rows(query(secret=token.secret)) == []


@pytest.mark.parametrize(
    ("params", "code"),
    [
        ({"windowSize": "MINUTE"}, "invalid_window_size"),
        ({"windowTimeZone": "Mars/Olympus"}, "invalid_time_zone"),
        ({"from": "yesterday"}, "invalid_time"),
        ({"from": "2026-11-16T00:00:00Z"}, "invalid_range"),
        ({"from": "2026-01-01T00:00:00Z", "windowSize": "DAY"}, "invalid_range"),
        ({"groupBy": "colour"}, "invalid_group_by"),
        ({"filterGroupBy": "[1]"}, "invalid_filter"),
        ({"filterGroupBy[colour]": "red"}, "invalid_filter"),
        ({"colour": "red"}, "unknown_parameter"),
    ],
)
def test_a_wrong_parameter_is_named(query, params, code):
    response = query(**params)
    assert (response.status_code, response.json()["code"]) == (400, code)


def test_an_unknown_meter_is_404(query):
    assert query("colours").json()["code"] == "unknown_meter"
