"""OpenMeter's Python client."""

from datetime import UTC, datetime, timedelta

import pytest
from corehttp.exceptions import HttpResponseError
from openmeter import Client

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def client(live_server, service_token):
    with Client(endpoint=live_server.url, token=service_token.secret) as client:
        yield client


def event(number, subject):
    return {
        "id": str(number),
        "source": "app",
        "specversion": "1.0",
        "type": "ai.usage",
        "subject": subject,
        "time": datetime.now(UTC),
        "data": {"model": f"m-{number % 2}", "input_tokens": 10},
    }


def test_everything_sent_is_in_the_totals_once(client, acme_key, acme, totals):
    client.events.ingest_event(event(0, acme_key.digest))
    client.events.ingest_events([event(number, acme_key.api_key.public_id) for number in range(1, 10)])
    client.events.ingest_events([event(number, acme_key.api_key.public_id) for number in range(5, 10)])
    assert totals(acme) == {"input_tokens": 100, "requests": 10}


def test_a_meter_can_be_queried(client, acme_key, acme, totals):
    client.events.ingest_events([event(number, acme_key.digest) for number in range(10)])
    totals(acme)
    now = datetime.now(UTC)
    result = client.meters.query_json(
        "input_tokens",
        from_parameter=now - timedelta(days=1),
        to=now + timedelta(hours=1),
        subject=[acme.public_id],
        group_by=["model"],
        filter_group_by={"model": "m-1"},
    )
    assert [(row.value, row.group_by["model"]) for row in result.data] == [(50, "m-1")]


def test_errors_are_what_the_client_understands(live_server, client):
    with pytest.raises(HttpResponseError) as raised:
        client.meters.query_json("input_tokens", subject=["key_nobody"])
    assert raised.value.status_code == 404
    stranger = Client(endpoint=live_server.url, token="kt-service-unknown")
    with stranger, pytest.raises(HttpResponseError) as raised:
        stranger.events.ingest_event(event(1, "key_1"))
    assert raised.value.status_code == 401
