"""An event belongs to a period to the microsecond, in time or late, in zones with odd offsets and changing clocks."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from accounts.organisations import update_organisation
from billing.invoicing import close_period
from tests.billing.billing_builders import payg, price, subscribed, use

pytestmark = pytest.mark.django_db

TICK = timedelta(microseconds=1)


# The clocks change within or at the edge of the period in all but Kathmandu.
@pytest.mark.parametrize("zone", ["Asia/Kathmandu", "Pacific/Chatham", "Europe/Berlin", "Australia/Lord_Howe"])
def test_the_last_microsecond_of_a_period_is_its_own_and_the_next_is_not(globex, zone):
    update_organisation(globex, name=globex.name, time_zone=zone, actor="test")
    globex.refresh_from_db()
    local = ZoneInfo(zone)
    first, second, third = (datetime(2026, month, 1, tzinfo=local).astimezone(UTC) for month in (9, 10, 11))
    price("input_tokens", "1.00")
    subscription = subscribed(globex, payg(), anchor=first)
    use(globex, first, input_tokens=1_000_000)
    use(globex, second - TICK, input_tokens=2_000_000)
    use(globex, second, input_tokens=4_000_000)

    september = close_period(subscription, now=second + timedelta(hours=2))
    use(globex, second - TICK, input_tokens=8_000_000)
    use(globex, second, input_tokens=16_000_000)
    october = close_period(subscription, now=third + timedelta(hours=2))

    assert (september.period_start, september.period_end) == (first, second)
    assert september.total_exact == 3
    assert {line.kind: line.amount_exact for line in october.lines.all()} == {"usage": 20, "adjustment": 8}
    (late,) = october.lines.filter(kind="adjustment")
    assert (late.period_start, late.period_end) == (first, second)
