"""What every page gives, as a browser sees it: theme, paper, the menu of a phone, words when the line is cut."""

import pytest

INK_OF_BODY = "getComputedStyle(document.body).color"
DARK_INK, LIGHT_INK = "rgb(19, 32, 31)", "rgb(233, 239, 237)"
PHONE = {"width": 390, "height": 844}


@pytest.fixture
def olivias_cookie(acme, olivia, client_for, live_server):
    return {"name": "sessionid", "value": client_for(olivia).cookies["sessionid"].value, "url": live_server.url}


def test_chosen_theme_is_remembered(page):
    page.goto("/pricing/")
    page.get_by_role("button", name="Dark").click()
    assert page.evaluate(INK_OF_BODY) == LIGHT_INK
    page.reload()
    assert page.evaluate(INK_OF_BODY) == LIGHT_INK
    page.get_by_role("button", name="Follow the system").click()
    assert page.evaluate(INK_OF_BODY) == DARK_INK


def test_paper_is_printed_in_dark_ink_whatever_the_theme(page):
    page.goto("/pricing/")
    page.get_by_role("button", name="Dark").click()
    page.emulate_media(media="print")
    assert page.evaluate(INK_OF_BODY) == DARK_INK


def test_menu_of_a_phone_works_without_javascript(browser, live_server, olivias_cookie):
    context = browser.new_context(base_url=live_server.url, viewport=PHONE, java_script_enabled=False)
    context.add_cookies([olivias_cookie])
    page = context.new_page()
    page.goto("/o/acme/members/")
    link = page.get_by_role("navigation", name="Portal").get_by_role("link", name="Settings")
    assert not link.is_visible()
    page.get_by_role("button", name="Menu").click()
    link.click()
    page.wait_for_url("**/o/acme/settings/")
    context.close()


def test_page_of_a_phone_does_not_scroll_sideways(page, browser_context, olivias_cookie):
    browser_context.add_cookies([olivias_cookie])
    page.set_viewport_size(PHONE)
    for address in ("/", "/pricing/", "/o/acme/", "/o/acme/usage/", "/o/acme/members/", "/o/acme/settings/"):
        page.goto(address)
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), address
