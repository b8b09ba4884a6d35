"""A web server that runs threads of its own survives JSON of any depth: callers choose part of what gateways report."""

import pytest
import requests

from tests.gateways.web_process import WebProcess

WAYS_IN = ("/v1/events", "/v1/litellm", "/v1/otlp/v1/traces", "/api/v1/events", "/v1/admissions", "/v1/api-keys")
DEPTH = 100_000


@pytest.mark.django_db(transaction=True)
def test_no_depth_of_json_takes_the_process_along(kilotoken: WebProcess, service_token):
    session = requests.Session()
    headers = {"Authorization": f"Bearer {service_token.secret}", "Content-Type": "application/json"}
    for address in WAYS_IN:
        for opening in ("[", '{"a":'):
            for before in ("", '{"specversion":"1.0","data":', '[{"metadata":', '{"estimate":{"a":'):
                body = (before + opening * DEPTH).encode()
                answer = session.post(kilotoken.url + address, data=body, headers=headers, timeout=60)
                assert answer.status_code < 500, (address, before, opening)
