"""Every page of the portal, on a phone and in the dark: nothing sticks out sideways, nothing keeps anybody out."""

from collections.abc import Iterator

import pytest
import time_machine
from django.conf import settings
from playwright.sync_api import BrowserContext, Page, expect

from tests.pages.addresses import routes_of_an_organisation
from tests.pages.portal_world import NOW, World, build_world

# A small phone, a usual one, and a tablet between the two layouts.
WIDTHS = [320, 390, 820]
# Files are not looked at, and payment leads to Stripe.
NOT_PAGES = {"metering:usage_csv", "billing:invoice_payment"}


@pytest.fixture
def world(acme, live_server) -> Iterator[World]:
    with time_machine.travel(NOW, tick=True):
        yield build_world(acme, 2)


@pytest.fixture
def olivias_page(page: Page, browser_context: BrowserContext, world, olivia, client_for, live_server) -> Page:
    cookie = client_for(olivia).cookies[settings.SESSION_COOKIE_NAME]
    browser_context.add_cookies([{"name": cookie.key, "value": cookie.value, "url": live_server.url}])
    return page


def pages_of(world: World, client) -> list[str]:
    """Addresses that answer with a page of their own."""
    addresses = [route.address(world) for route in routes_of_an_organisation() if route.name not in NOT_PAGES]
    return [address for address in addresses if client.get(address).status_code == 200]


def test_no_page_scrolls_sideways_on_small_screens(olivias_page, world, olivia, client_for):
    page, too_wide = olivias_page, []
    for address in pages_of(world, client_for(olivia)):
        page.goto(address)
        for width in WIDTHS:
            page.set_viewport_size({"width": width, "height": 800})
            beyond = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
            if beyond > 0:
                too_wide.append((address, width, beyond))
    assert too_wide == []


@pytest.mark.parametrize(("scheme", "width"), [("light", 390), ("dark", 1280)])
def test_no_page_keeps_anybody_out(olivias_page, axe, world, olivia, client_for, scheme, width):
    page, found = olivias_page, {}
    page.emulate_media(color_scheme=scheme)
    page.set_viewport_size({"width": width, "height": 800})
    for address in pages_of(world, client_for(olivia)):
        page.goto(address)
        breaches = [breach for breach in axe(page) if breach["weight"] in {"serious", "critical"}]
        if breaches:
            found[address] = breaches
    assert found == {}


def test_menu_of_a_phone_is_a_drawer(olivias_page):
    page = olivias_page
    page.set_viewport_size({"width": 390, "height": 800})
    page.goto("/o/acme/")
    drawer = page.locator("#portal-side")
    expect(drawer).to_be_hidden()
    page.get_by_role("button", name="Menu").click()
    expect(drawer).to_be_visible()
    page.keyboard.press("Escape")
    expect(drawer).to_be_hidden()
    page.get_by_role("button", name="Menu").click()
    drawer.get_by_role("link", name="Invoices").click()
    expect(page.get_by_role("heading", name="Invoices", level=1)).to_be_visible()
    expect(drawer).to_be_hidden()
