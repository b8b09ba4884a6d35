"""Every action works without JavaScript: links and forms come first, htmx after."""

from collections.abc import Iterator

import pytest
from django.utils import timezone
from playwright.sync_api import Browser, Page, expect

from accounts.models import ApiKey
from billing.subscribing import current_subscription
from tests.billing.billing_builders import payg, team, use
from tests.factories import PASSWORD


@pytest.fixture
def plain_page(browser: Browser, live_server) -> Iterator[Page]:
    context = browser.new_context(base_url=live_server.url, java_script_enabled=False)
    context.set_default_timeout(15_000)
    yield context.new_page()
    context.close()


@pytest.fixture
def signed_in(plain_page, olivia, acme) -> Page:
    plain_page.goto("/accounts/login/")
    plain_page.fill("input[name=login]", olivia.email)
    plain_page.fill("input[name=password]", PASSWORD)
    plain_page.click("#door-form button[type=submit]")
    expect(plain_page).to_have_url(f"{plain_page.url.split('/o/')[0]}/o/acme/")
    return plain_page


def test_key_is_made_and_revoked(signed_in, acme):
    page = signed_in
    page.goto("/o/acme/keys/new/")
    page.fill("input[name=name]", "Plain")
    page.get_by_role("button", name="Create key").click()
    assert page.locator("#secret-value").inner_text().startswith("sk-kt-")
    key = ApiKey.objects.for_organisation(acme).get()
    page.goto(f"/o/acme/keys/{key.public_id}/revocation/")
    page.locator("form button.danger").click()
    key.refresh_from_db()
    assert key.revoked_at is not None


def test_usage_is_filtered_by_a_form(signed_in, acme):
    page, now = signed_in, timezone.now()
    use(acme, now, "gpt-4o", input_tokens=700)
    use(acme, now, "gpt-4o-mini", input_tokens=42)
    page.goto("/o/acme/usage/?range=7d")
    expect(page.locator("#reading-tokens .value")).to_have_text("742")
    page.select_option("select[name=model]", "gpt-4o-mini")
    page.get_by_role("button", name="Show").click()
    expect(page.locator("#reading-tokens .value")).to_have_text("42")
    assert "model=gpt-4o-mini" in page.url
    expect(page.locator("#usage-list table")).to_be_visible()


def test_plan_is_taken_and_changed(signed_in, acme):
    page = signed_in
    payg()
    team()
    page.goto("/o/acme/plan/")
    page.get_by_role("link", name="Choose Payg").click()
    page.get_by_role("button", name="Start Payg").click()
    page.goto("/o/acme/plan/")
    page.get_by_role("link", name="Change to Team").click()
    page.locator("form.plan-confirm button[type=submit]").click()
    expect(page.get_by_text("Your plan will be Team.")).to_be_visible()
    assert current_subscription(acme, timezone.now()).phases.count() == 2
