"""The way in, as a browser sees it."""


def test_sign_in_page_shows_its_form(page):
    page.goto("/accounts/login/")
    assert page.locator("input[type=email]").is_visible()
    assert page.locator("input[type=password]").is_visible()
