"""The frame around every page of the portal: whoever sees a link may follow it."""

import re

import pytest
from django.template.loader import render_to_string

from accounts.models import Role
from tests import factories

LINK = re.compile(r'<a href="([^"]+)"')
MENU = re.compile(r'<nav class="side-nav".*?</nav>', re.DOTALL)


def menu_of(html: str) -> str:
    found = MENU.search(html)
    assert found is not None
    return found.group()


@pytest.mark.parametrize("role", Role.values)
def test_every_link_of_the_menu_leads_to_a_page(acme, client_for, role):
    user = factories.user(f"{role}@acme.example")
    factories.member(acme, user, role)
    client = client_for(user)
    links = LINK.findall(menu_of(client.get("/o/acme/members/").text))
    assert len(links) >= 9
    assert {link: client.get(link).status_code for link in links} == dict.fromkeys(links, 200)


def test_owner_sees_the_whole_menu(acme, olivia, client_for):
    menu = menu_of(client_for(olivia).get("/o/acme/members/").text)
    labels = re.findall(r"</svg>([^<]+)</a>", menu)
    assert labels == [
        "Overview", "Usage", "API keys", "Limits", "Alerts", "Projects", "Bill", "Forecast", "Invoices", "Credit",
        "Plan",
        "Members", "Access tokens", "Audit log", "Settings",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "page",
    [
        "",
        "usage/",
        "keys/",
        "projects/",
        "bill/",
        "invoices/",
        "plan/",
        "members/",
        "access-tokens/",
        "audit/",
        "settings/",
    ],
)
def test_menu_marks_the_page_one_is_on(acme, olivia, client_for, page):
    address = f"/o/acme/{page}"
    menu = menu_of(client_for(olivia).get(address).text)
    assert re.findall(r'<a href="([^"]+)" aria-current="page"', menu) == [address]


def test_pages_hold_no_inline_script_or_style(acme, olivia, client_for):
    html = client_for(olivia).get("/o/acme/").text
    assert not re.search(r"<script(?![^>]*\ssrc=)|<style|\sstyle=|\son[a-z]+=", html)


def test_style_guide_needs_no_context():
    html = render_to_string("styleguide.html")
    assert "Every component" in html
    assert not re.search(r"<style|\sstyle=", html)
