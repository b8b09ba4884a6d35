"""Operators' pages on a phone: long names and bodies break rather than push the page wide."""

import pytest
from django.conf import settings
from django.urls import reverse
from django.utils import timezone

from metering.models import RejectedEvent
from tests.metering.conftest import take
from tests.metering.usage_world import event


@pytest.fixture
def operators_page(page, browser_context, live_server, operator, client_for):
    cookie = client_for(operator).cookies[settings.SESSION_COOKIE_NAME]
    browser_context.add_cookies([{"name": cookie.key, "value": cookie.value, "url": live_server.url}])
    page.set_viewport_size({"width": 390, "height": 800})
    return page


def test_no_page_of_a_rejected_event_scrolls_sideways(operators_page, live_server, acme):
    now = timezone.now()
    take(event(acme.public_id, now, event_id="e" * 200, input_tokens="many", note="n" * 2_000), now=now)
    row = RejectedEvent.objects.get().pk
    names = {"changelist": [], "change": [row], "replay_this": [row], "dismiss_this": [row]}
    too_wide = {}
    for name, args in names.items():
        operators_page.goto(live_server.url + reverse(f"admin:metering_rejectedevent_{name}", args=args))
        width = operators_page.evaluate("document.documentElement.scrollWidth")
        if width > 390:
            too_wide[name] = width
    assert too_wide == {}
