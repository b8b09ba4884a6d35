"""Chromium, driven by Playwright, against the live server. Nothing the browser asks for leaves the machine.

Without a Chromium these tests are left out, unless REQUIRE_BROWSER=1 makes that a failure. A failing test leaves a
picture of its page in .data/test/screenshots/.
"""

import os
import re
import shutil
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, sync_playwright

from tests.postgres import DATA

SCREENSHOTS = DATA / "screenshots"
NAMES = ("chromium", "chromium-browser", "google-chrome-stable", "google-chrome")
# Root may not use the sandbox, and containers have a small /dev/shm; the rest keeps Chromium from calling home.
FLAGS = ["--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu", "--disable-quic", "--no-first-run"]
FLAGS += ["--disable-background-networking", "--disable-component-update", "--disable-sync"]
# A missing page says so itself; the others are a poll that was under way when its page was left.
HARMLESS = ("Failed to load resource", "htmx:sendAbort", "htmx:sendError", "htmx:afterRequest")
# A button whose colour is changing under the mouse has, for a moment, a contrast that it never keeps.
COLOURS_ARE_SETTLED = """Promise.allSettled(
    document.getAnimations().filter(one => one instanceof CSSTransition).map(one => one.finished)).then(() => true)"""
BREACHES = """axe.run().then(result => result.violations.map(({id, impact, nodes}) => (
    {rule: id, weight: impact, places: nodes.map(node => node.target.join()).join("; ")}
)))"""

# Playwright's synchronous interface keeps an event loop in this thread, which Django takes for asynchronous code.
os.environ.setdefault("DJANGO_ALLOW_ASYNC_UNSAFE", "true")


def chromium_path() -> str | None:
    named = os.environ.get("CHROMIUM")
    return named or next((path for path in map(shutil.which, NAMES) if path), None)


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    path = chromium_path()
    if path is None:
        message = "There is no Chromium: install it (Debian: apt-get install chromium), or name it in CHROMIUM."
        if os.environ.get("REQUIRE_BROWSER") == "1":
            pytest.fail(message)
        pytest.skip(message)
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=path, args=FLAGS)
        yield chromium
        chromium.close()


@pytest.fixture
def browser_context(browser: Browser, live_server: Any) -> Iterator[BrowserContext]:
    """A fresh profile: no cookies, and only the live server within reach."""
    context = browser.new_context(base_url=live_server.url, locale="en-GB", timezone_id="Europe/Berlin")
    context.set_default_timeout(15_000)
    context.route(lambda url: not _is_local(url), lambda route: route.abort())
    yield context
    context.close()


@pytest.fixture
def page(browser_context: BrowserContext, request: pytest.FixtureRequest) -> Iterator[Page]:
    """A page that fails the test when its console shows an error: a broken script, a breach of the policy."""
    page = browser_context.new_page()
    problems: list[str] = []

    def note(message: ConsoleMessage) -> None:
        if message.type == "error" and not message.text.startswith(HARMLESS):
            problems.append(message.text)

    page.on("console", note)
    page.on("pageerror", lambda error: problems.append(str(error)))
    yield page
    if _has_failed(request) or problems:
        SCREENSHOTS.mkdir(parents=True, exist_ok=True)
        page.screenshot(path=SCREENSHOTS / f"{_file_name(request.node.nodeid)}.png", full_page=True)
    assert problems == [], "the browser's console shows errors"


@pytest.fixture
def axe() -> Callable[[Page], list[dict[str, str]]]:
    """A function that gives the breaches of accessibility rules on a page: rule, weight, places."""
    found = find_spec("axe_playwright_python")
    assert found is not None, "axe_playwright_python is not installed"
    script = (Path(str(found.origin)).parent / "axe.min.js").read_text(encoding="utf-8")

    def breaches(page: Page) -> list[dict[str, str]]:
        page.evaluate(COLOURS_ARE_SETTLED)
        return page.evaluate(f"{script};{BREACHES}")  # evaluated by the debugger: the page's policy does not apply

    return breaches


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[Any]:
    report = yield
    if report.when == "call":
        item.stash[_FAILED] = report.failed
    return report


_FAILED = pytest.StashKey[bool]()


def _has_failed(request: pytest.FixtureRequest) -> bool:
    return request.node.stash.get(_FAILED, False)


def _file_name(node: str) -> str:
    return re.sub(r"[^\w.-]+", "_", node.removeprefix("tests/browser/"))[:120]


def _is_local(url: str) -> bool:
    return re.match(r"(http|ws)://(127\.0\.0\.1|localhost)[:/]|data:|blob:|about:", url) is not None
