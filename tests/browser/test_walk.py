"""The way of a newcomer in one go: from sign-up to a paid bill, in Chromium, with the Stripe sandbox over HTTP.

What a Celery worker would do in the background is done by `work`, through the same verbs. It begins on an October
morning; the bill is closed and paid a month later.
"""

import csv
import io
import json
import re
import subprocess
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import time_machine
from django.core.cache import cache
from django.core.management import call_command
from django.utils import timezone
from playwright.sync_api import Page, expect

from accounts.first_event import NEW_TOKEN
from billing import announcing, stripe_inbox, stripe_sync
from billing.demo.offers import publish_plans, write_prices
from billing.models import Invoice, StripeEvent
from billing.models.invoices import InvoiceState
from billing.sandbox import Sandbox, load_document
from metering.aggregation import fold_pending
from tests import factories
from tests.factories import PASSWORD
from tests.postgres import DATA

SIGN_UP = datetime(2026, 10, 12, 9, 30, tzinfo=UTC)
EVENING = datetime(2026, 10, 12, 18, 45, tzinfo=UTC)
A_MONTH_LATER = datetime(2026, 11, 13, 9, 30, tzinfo=UTC)
MAIL, WEBHOOK_SECRET = "nora@newcomer.example", "whsec_walk"
TRACE = """\
TIMESTAMP,ContextTokens,GeneratedTokens
2023-11-16 18:17:03.979,4808,10000
2023-11-16 18:17:04.031,3180,8
2023-11-16 18:17:04.078,110,2700000
2023-11-16 18:30:04.104,7433,14
"""
INPUT, OUTPUT, CALLS = 4808 + 3180 + 110 + 7433, 10000 + 8 + 2700000 + 14, 4


@pytest.fixture
def clock() -> Iterator[time_machine.Traveller]:
    with time_machine.travel(SIGN_UP, tick=True) as traveller:
        yield traveller


@pytest.fixture
def stripe(settings, clock, live_server) -> Iterator[Sandbox]:
    """The sandbox, which posts its signed webhooks to the live server."""
    webhook = (f"{live_server.url}/stripe/webhook/", WEBHOOK_SECRET)
    with Sandbox(document=load_document(DATA / "stripe-sandbox"), webhook=webhook) as sandbox:
        settings.STRIPE_SECRET_KEY = "sk_test_walk"
        settings.STRIPE_API_BASE = sandbox.url
        settings.STRIPE_WEBHOOK_SECRETS = [WEBHOOK_SECRET]
        settings.STRIPE_ENVIRONMENT = "test"
        yield sandbox


@pytest.fixture
def shop(transactional_db, settings, clock, live_server, tmp_path, _meters) -> None:
    """A provider that is open for business: prices, plans, and a mailbox of this test alone."""
    settings.SITE_URL = live_server.url
    settings.DEVELOPMENT_MAILBOX = tmp_path / "mailbox"
    settings.MAILERS = {"default": {"BACKEND": "accounts.mailbox.DevelopmentMailbox"}}
    cache.clear()  # an earlier run signed up at the same time, and confirmations are sent once in three minutes
    write_prices()
    publish_plans(SIGN_UP - timedelta(days=1))


def work() -> None:
    """What the worker does every second or two."""
    now = timezone.now()
    while fold_pending(now=now).batches:
        pass
    stripe_sync.push_waiting(now=now)
    stripe_inbox.apply_unhandled(now=now)
    announcing.announce_due(now=now)


def test_from_sign_up_to_a_paid_bill(page: Page, axe, shop, stripe, clock, live_server, tmp_path):
    walk = Walk(page, axe)
    walk.sign_up()
    walk.create_organisation()
    walk.take_plan("Pay as you go")
    walk.make_key("Production")
    walk.send_first_event()
    walk.see_usage_move()
    clock.move_to(EVENING)
    walk.import_trace(tmp_path / "trace.csv")
    walk.group_and_download()
    walk.see_the_bill()
    walk.sign_out()
    clock.move_to(A_MONTH_LATER)
    walk.close_the_period_as_operator()
    walk.pay()


class Walk:
    """The steps, one after the other. Every page that is visited is looked at for accessibility."""

    def __init__(self, page: Page, axe) -> None:
        self.page = page
        self.axe = axe
        self.key = ""
        self.invoice_path = ""

    def open(self, path: str) -> None:
        self.page.goto(path)
        self.look()

    def look(self) -> None:
        """Nothing on this page keeps anybody out."""
        self.page.wait_for_load_state()
        found = [breach for breach in self.axe(self.page) if breach["weight"] in {"serious", "critical"}]
        assert found == [], self.page.url

    def sign_up(self) -> None:
        page = self.page
        self.open("/")
        page.get_by_role("link", name="Sign up").first.click()
        self.look()
        page.fill("input[name=email]", MAIL)
        page.fill("input[name=password1]", PASSWORD)
        page.click("#door-form button[type=submit]")
        self.look()
        page.get_by_role("link", name="development mailbox").click()
        self.look()
        page.get_by_role("row").filter(has_text=MAIL).get_by_role("link").first.click()
        self.look()
        page.locator("#mail-body a").first.click()
        self.look()
        page.get_by_role("button", name="Yes, confirm it").click()

    def create_organisation(self) -> None:
        page = self.page
        expect(page.get_by_role("heading", name="Your first organisation")).to_be_visible()
        self.look()
        page.fill("input[name=name]", "Newcomer")
        page.select_option("select[name=time_zone]", "Europe/Berlin")
        page.get_by_role("button", name="Create organisation").click()
        expect(page).to_have_url(re.compile("/o/newcomer/$"))
        self.look()
        expect(page.locator("#first-steps h2")).to_have_count(3)

    def take_plan(self, name: str) -> None:
        page = self.page
        page.get_by_role("link", name="See the plans").click()
        self.look()
        page.get_by_role("link", name=f"Choose {name}").click()
        self.look()
        page.get_by_role("button", name=f"Start {name}").click()
        expect(page.get_by_text(f"You are on {name} now.")).to_be_visible()
        expect(page.locator("#first-steps .done")).to_have_count(1)

    def make_key(self, name: str) -> None:
        """The secret is on the page once; after a reload it is gone."""
        page = self.page
        page.get_by_role("link", name="Make an API key").click()
        self.look()
        page.fill("input[name=name]", name)
        page.get_by_role("button", name="Create key").click()
        secret = page.locator("#secret-value").inner_text()
        assert re.fullmatch(r"sk-kt-[\w-]{43,}", secret)
        self.look()
        page.reload()
        expect(page.get_by_text("the secret was shown then")).to_be_visible()
        assert secret not in page.content()
        page.get_by_role("link", name="I have copied it").click()
        self.look()
        self.key = re.search(r"key_[a-z0-9]{20}", page.content()).group()
        assert secret not in page.content()

    def send_first_event(self) -> None:
        """The line of the empty overview, as it is pasted; only the token was made beforehand."""
        page = self.page
        self.open("/o/newcomer/")
        expect(page.get_by_text("Waiting for the first event")).to_be_visible()
        expect(page.locator("#first-steps .done")).to_have_count(2)
        line = page.locator("#first-steps pre").inner_text()
        assert self.key in line
        assert NEW_TOKEN in line
        answers = [paste(line.replace(NEW_TOKEN, factories.service_token().secret)) for _ in range(2)]
        assert [answer["events"][0]["verdict"] for answer in answers] == ["accepted", "duplicate"]
        expect(page.get_by_text("Waiting for the first event")).to_have_count(0)  # the page found out by itself
        self.look()

    def see_usage_move(self) -> None:
        page = self.page
        page.locator("nav").get_by_role("link", name="Usage").first.click()
        expect(page.get_by_text("1 event being added")).to_be_visible()
        page.evaluate("window.notReloaded = true")
        work()
        expect(page.locator("#reading-tokens .value")).to_have_text("1,550")
        expect(page.locator("#reading-requests .value")).to_have_text("1")
        assert page.evaluate("window.notReloaded")
        self.look()

    def import_trace(self, file: Path) -> None:
        page = self.page
        file.write_text(TRACE)
        arguments = ["import_usage", str(file), "--organisation=newcomer", "--model=gpt-4o", f"--api-key={self.key}"]
        shift = "--shift-to=2026-10-12"
        for expected in ((CALLS, 0), (0, CALLS)):
            assert imported(*arguments, shift) == expected
        work()
        expect(page.locator("#reading-tokens .value")).to_have_text(f"{1550 + INPUT + OUTPUT:,}")
        assert page.evaluate("window.notReloaded")

    def group_and_download(self) -> None:
        page = self.page
        rows = page.locator("#usage-list tbody tr")
        expect(rows).to_have_count(2)
        assert listed(page) == {"gpt-4o": INPUT + OUTPUT, "gpt-oss-120b": 1550}
        page.select_option("select[name=group]", "api_key")
        expect(rows).to_have_count(1)
        [(name, total)] = listed(page).items()
        assert name.startswith("Production")
        assert total == INPUT + OUTPUT + 1550
        page.select_option("select[name=range]", "last_month")
        expect(page.locator("#usage-nothing")).to_be_visible()
        self.look()
        page.select_option("select[name=range]", "7d")
        page.select_option("select[name=group]", "model")
        expect(rows).to_have_count(2)
        assert "group=model" in page.url
        with page.expect_download() as download:
            page.get_by_role("link", name="Download CSV").click()
        assert totals_of(Path(download.value.path()).read_text()) == listed(page)

    def see_the_bill(self) -> None:
        """A line per model and kind of token, and how it came about."""
        page = self.page
        page.locator("nav").get_by_role("link", name="Bill").first.click()
        self.look()
        lines = page.locator("tr.line")
        expect(lines).to_have_count(4)
        expect(page.locator("tr.model")).to_contain_text(["gpt-4o", "gpt-oss-120b"])
        lines.filter(has_text="Output").first.get_by_text("How this came about").click()
        expect(page.get_by_text(f"{OUTPUT:,} output tokens × $10.00 per 1,000,000")).to_be_visible()
        expect(page.locator("tr.total")).to_contain_text("$27.14")
        self.look()

    def sign_out(self) -> None:
        self.page.locator("#user-menu summary").first.click()
        self.page.get_by_role("button", name="Sign out").click()
        self.look()

    def sign_in(self, email: str) -> None:
        self.open("/accounts/login/")
        self.page.fill("input[name=login]", email)
        self.page.fill("input[name=password]", PASSWORD)
        self.page.click("#door-form button[type=submit]")
        self.page.wait_for_url(lambda url: "login" not in url)

    def close_the_period_as_operator(self) -> None:
        page = self.page
        factories.user("operator@kilotoken.example", name="Oscar Operator", is_superuser=True)
        self.sign_in("operator@kilotoken.example")
        page.goto("/admin/accounts/organisation/")
        expect(page.get_by_role("link", name="Newcomer")).to_be_visible()
        page.goto("/admin/billing/subscription/")
        page.get_by_role("link", name="Newcomer").click()
        page.get_by_role("link", name="Close the period that ended…").click()
        expect(page.get_by_role("row").filter(has_text="Total")).to_contain_text("$27.14")
        page.get_by_role("button", name="Close and finalise").click()
        expect(page.get_by_text(re.compile(r"invoice KT-2026-\d+ over \$27.14 is finalised"))).to_be_visible()
        page.context.clear_cookies()

    def pay(self) -> None:
        page = self.page
        self.sign_in(MAIL)
        page.locator("nav").get_by_role("link", name="Invoices").first.click()
        self.look()
        page.get_by_role("link", name=re.compile("KT-2026-")).first.click()
        self.look()
        expect(page.locator("#invoice-state")).to_contain_text("Being prepared")
        work()
        page.get_by_role("link", name="Pay $27.14").click()
        expect(page.get_by_role("button", name="Pay 27.14 USD")).to_be_visible()
        assert "/o/newcomer/" not in page.url
        page.get_by_role("button", name="Pay 27.14 USD").click()
        expect(page.get_by_text("Invoice paid")).to_be_visible()
        wait_until(lambda: StripeEvent.objects.filter(type="invoice.paid").exists())
        self.open(f"/o/newcomer/invoices/{Invoice.objects.get().number}/")
        work()
        expect(page.locator("#invoice-state .badge")).to_have_text("Paid")
        self.look()
        assert Invoice.objects.get().state == InvoiceState.PAID


def paste(line: str) -> dict:
    """Into a terminal."""
    done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, timeout=30, check=True)
    return json.loads(done.stdout)


def imported(*command: str) -> tuple[int, int]:
    """(accepted, duplicates) of the command with these arguments."""
    out = io.StringIO()
    call_command(*command, "--json", stdout=out)
    result = json.loads(out.getvalue())
    return result["accepted"], result["duplicates"]


def listed(page: Page) -> dict[str, int]:
    """The table of the usage page: name -> tokens."""
    rows = page.locator("#usage-list tbody tr")
    return {
        row.locator("th").inner_text(): int(row.locator("td").first.inner_text().replace(",", "")) for row in rows.all()
    }


def totals_of(text: str) -> dict[str, int]:
    """The same of the CSV, which has a row per day and model."""
    found: dict[str, int] = {}
    for row in csv.DictReader(io.StringIO(text)):
        found[row["model"]] = found.get(row["model"], 0) + int(row["value"])
    return found


def wait_until(condition) -> None:
    deadline = time.monotonic() + 15
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)
