"""Schemathesis makes requests up from the API's own description, and hypothesis makes up queries beyond it.

Whatever is asked, the answer is one that the description names, and never an internal error.
"""

import json
import os
from urllib.parse import urlencode

import pytest
import schemathesis
from django.core.signals import request_finished, request_started
from django.db import close_old_connections
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis.checks import not_a_server_error
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from accounts.models import Attempts
from config.wsgi import application
from tests.factories import ApiClient

pytestmark = pytest.mark.django_db

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
# The same few requests on every run, since a test that fails by chance teaches nobody anything; FUZZ_EXAMPLES=500
# looks further, elsewhere each time.
EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "0"))
BOUNDED = settings(
    max_examples=EXAMPLES or 8,
    derandomize=not EXAMPLES,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
)
QUERIES = settings(BOUNDED, max_examples=EXAMPLES or 30)

AWKWARD = [
    *(
        "",
        " ",
        "0",
        "-1",
        "1" * 40,
        "٣",
        "1e9",
        "null",
        "true",
        "[]",
        "%",
        "%00",
        "'",
        "\\",
        "\x00",
        "a\x00b",
        "\ud7ff",
    ),
    *("0001-01-01", "9999-12-31", "2026-02-30", "2026-11-01T00:00:00", "9999-12-31T23:59:59.999999-23:59"),
    *("0001-01-01T00:00:00+23:59", "2026-W01-1", "2026-11-01T24:00:00Z", "day", "total", "meter", "meter,meter", ","),
]
ADDRESSES = {
    "/v1/usage": ["from", "to", "granularity", "group_by", "meter", "model", "project", "api_key", "limit", "cursor"],
    "/v1/bill": ["at", "period", "currency"],
    "/v1/subscriptions": ["limit", "cursor", "state"],
    "/v1/coupons": ["limit", "cursor", "code"],
    "/v1/margins": ["first_day", "last_day", "by", "percent", "model"],
    "/v1/invoices": ["limit", "cursor", "state", "status"],
    "/v1/credits": ["limit", "cursor", "currency"],
    "/v1/api-keys": ["limit", "cursor", "project", "state"],
    "/v1/seals": ["limit", "cursor", "day"],
    "/v1/proofs": ["source", "id", "format"],
    "/api/v1/meters/input_tokens/query": ["from", "to", "windowSize", "windowTimeZone", "subject", "groupBy"],
}


@pytest.fixture
def secret(request, acme_key, service_token, acme_access_token):
    return {"service": service_token, "access": acme_access_token, "none": None}[request.param]


@pytest.fixture
def _one_connection():
    """Requests stay within the test's transaction, as those of Django's own test client do."""
    signals = (request_started, request_finished)
    for signal in signals:
        signal.disconnect(close_old_connections)
    yield
    for signal in signals:
        signal.connect(close_old_connections)


@pytest.mark.usefixtures("_one_connection")
@pytest.mark.parametrize("secret", ["service", "access", "none"], indirect=True)
@pytest.mark.parametrize("mode", list(GenerationMode))
def test_every_answer_is_one_that_the_description_names(secret, mode, acme):
    headers = {"Authorization": f"Bearer {secret.secret}"} if secret else {}
    schema = schemathesis.openapi.from_wsgi("/v1/openapi.json", application)
    operations = [found.ok() for found in schema.get_all_operations()]
    assert len(operations) > 10
    answers = set()
    for operation in operations:
        answers |= _fuzz(operation, mode, headers, acme)
    assert (200 in answers) or not secret
    assert {answer // 100 for answer in answers} >= {4}


def _fuzz(operation, mode, headers, organisation):
    answers = set()
    # Made-up tokens of all operations together are more than a place may try in a minute.
    Attempts.objects.all().delete()

    @BOUNDED
    @given(case=operation.as_strategy(generation_mode=mode), named=st.booleans())
    def ask(case, named):
        if named:
            case.query = {**(case.query or {}), "organisation": organisation.slug}
        response = case.call(headers=headers)
        answers.add(response.status_code)
        case.validate_response(response, checks=CHECKS)

    ask()
    return answers


@pytest.mark.parametrize("secret", ["service", "access"], indirect=True)
@pytest.mark.parametrize("address", ADDRESSES)
def test_no_query_is_answered_with_an_internal_error(secret, address, acme, acme_key):
    client = ApiClient(secret.secret)
    client.raise_request_exception = False
    values = st.one_of(
        st.sampled_from([*AWKWARD, acme.public_id, acme_key.api_key.public_id]),
        st.datetimes().map(lambda at: f"{at.isoformat()}Z"),
        st.text(max_size=20),
    )
    names = st.sampled_from([*ADDRESSES[address], "label.team", "organisation"]) | st.text(max_size=8)
    organisations = st.sampled_from([[("organisation", "acme")]] * 3 + [[("organisation", "\x00")], []])

    @QUERIES
    @given(organisation=organisations, pairs=st.lists(st.tuples(names, values), max_size=4))
    def ask(organisation, pairs):
        response = client.get(f"{address}?{urlencode([*organisation, *pairs])}")
        assert response.status_code < 500, pairs
        if response.status_code >= 400:
            assert response["Content-Type"] == "application/problem+json"
            assert json.loads(response.content)["code"]

    ask()
