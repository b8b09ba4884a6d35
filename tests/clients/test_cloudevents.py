"""The CNCF's CloudEvents library, in both of its modes."""

import pytest
import requests
from cloudevents.conversion import to_binary, to_structured
from cloudevents.http import CloudEvent

from metering.models import Event

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.mark.parametrize("write", [to_binary, to_structured])
def test_events_in_headers_or_in_the_body_arrive_alike(live_server, service_token, acme_key, acme, totals, write):
    for number in range(3):
        attributes = {"source": "app", "type": "ai.usage", "subject": acme_key.digest, "id": f"call {number}"}
        headers, body = write(CloudEvent(attributes, {"model": "m-1", "input_tokens": 7}))
        headers |= {"Authorization": f"Bearer {service_token.secret}"}
        headers.setdefault("content-type", "application/json")
        assert requests.post(live_server.url + "/v1/events", data=body, headers=headers, timeout=30).ok
    assert totals(acme) == {"input_tokens": 21, "requests": 3}
    assert set(Event.objects.values_list("source", "event_id")) == {("app", f"call {number}") for number in range(3)}
