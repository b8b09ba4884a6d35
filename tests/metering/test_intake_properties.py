"""However a set of events is cut into requests, repeated and interleaved, each of them ends as exactly one row."""

from datetime import timedelta
from itertools import count

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from metering.models import Event, IngestBatch
from tests.metering.conftest import NOW, take

pytestmark = pytest.mark.django_db

EVENTS = 12
examples = count()
requests = st.lists(st.lists(st.integers(0, EVENTS - 1), max_size=2 * EVENTS), max_size=6)


@settings(max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(cuts=requests, hours=st.lists(st.integers(0, 24 * 30), min_size=7, max_size=7))
def test_any_requests_that_cover_all_events_store_each_once(draft, cuts, hours):
    """The requests are spread over thirty days and so over the turn of a month."""
    source = f"example {next(examples)}"
    events = [draft(str(number), source=source, output_tokens=number) for number in range(EVENTS)]
    seen: set[int] = set()
    for request, later in zip([*cuts, list(range(EVENTS))], sorted(hours), strict=False):
        verdicts = take(*[events[number] for number in request], now=NOW + timedelta(hours=later))
        for number, verdict in zip(request, verdicts, strict=True):
            assert verdict.verdict == ("duplicate" if number in seen else "accepted")
            seen.add(number)

    stored = Event.objects.filter(source=source)
    assert sorted(stored.values_list("event_id", flat=True)) == sorted(map(str, range(EVENTS)))
    batches = IngestBatch.objects.filter(pk__in=stored.values_list("batch_id", flat=True))
    assert sum(batches.values_list("event_count", flat=True)) == EVENTS
