"""The house rules that a machine can check: imports, access marks, tenancy, migrations, templates, commands, files."""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grimp
import pytest
from celery import current_app
from django.apps import apps
from django.core.management import call_command, get_commands, load_command_class
from django.db import models
from django.template.loader import get_template
from django.urls import URLPattern, URLResolver, get_resolver

from accounts.tenancy import OrganisationOwned
from config.schedule import SCHEDULE
from tests.import_contracts import HouseLayers

ROOT = Path(__file__).resolve().parent.parent
OUR_APPS = ("accounts", "metering", "billing")
OUR_FOLDERS = (*OUR_APPS, "config", "templates", "static", "tests", ".ci")
MOST_LINES = 500
# Views of packages decide about access themselves.
FOREIGN_VIEWS = ("allauth.", "django.contrib.", "unfold.", "drf_spectacular.", "rest_framework.")
# Models that belong to an organisation in another way than OrganisationOwned, and why.
ORGANISATION_IN_ANOTHER_WAY = {
    "accounts.AuditEntry": "acts of operators concern no organisation",
    "metering.Correction": "leads the primary key of a distributed table that knows no foreign keys",
    "metering.Event": "leads the primary key of a partitioned table that knows no foreign keys",
    "metering.IngestBatch": "a batch of several organisations has none",
    "metering.RejectedEvent": "whoever sent it may be unknown",
    "metering.Series": "leads the keys of a distributed table that knows no foreign keys",
    "metering.UsageInterval": "leads the primary key of a distributed table that knows no foreign keys",
    "metering.UsageDay": "leads the primary key of a distributed table that knows no foreign keys",
    "metering.MeterBackfill": "one row goes through all organisations and says at which it is",
    "metering.SeriesLimit": "stands beside the series, which know no foreign keys",
    "metering.UniqueValue": "leads the primary key of a distributed table that knows no foreign keys",
    "metering.UniqueDayValue": "leads the primary key of a distributed table that knows no foreign keys",
    "metering.QuotaWindow": "leads the primary key of a distributed table that knows no foreign keys",
    "metering.Hold": "leads the primary key of a distributed table that knows no foreign keys",
    "metering.PrunedHoldEvent": "leads the primary key of a distributed table that knows no foreign keys",
    "metering.AdmissionChange": "a change may be everybody's; triggers write it",
    "metering.PriceEstimate": "leads the keys of a distributed table that knows no foreign keys",
    "metering.BillingWindow": "leads the keys of a distributed table that knows no foreign keys",
    "metering.BilledUsage": "the organisation is the primary key",
    "metering.BilledUsageChange": "stands beside the totals, which know no foreign keys",
    "metering.AdmissionSettings": "the organisation is the key of its settings",
    "billing.EstimatesWritten": "the organisation is the primary key",
    "metering.AlertSettings": "the organisation is the key of its settings",
    "billing.PrepaidTerms": "the organisation is the primary key",
    "billing.BillingDetails": "the organisation is the primary key",
    "billing.StripeCustomer": "the organisation is the key of a mirror",
    "billing.Plan": "most plans are for all organisations",
    "billing.PriceCorrection": "most corrections concern all organisations",
}

# --- Imports ----------------------------------------------------------------------------------------------------------


def test_import_contracts_are_kept():
    lint_imports = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run([lint_imports, "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("importer", "imported", "is_kept"),
    [
        ("billing.views.bills", "billing.invoicing", True),
        ("billing.invoicing", "billing.subscribing", True),
        ("billing.views", "metering.reports", True),
        ("billing.invoicing", "billing.tasks", False),
        ("billing.views", "billing.api", False),
        ("billing.views", "metering.views", False),
        ("billing.models.invoices", "billing.invoicing", False),
        ("billing.money", "billing.rating", False),
    ],
)
def test_layers_let_modules_import_what_stands_below(importer, imported, is_kept):
    graph = grimp.ImportGraph()
    graph.add_import(importer=importer, imported=imported, line_number=1, line_contents="")
    contract = HouseLayers("layers", {}, {"apps": list(OUR_APPS)})
    assert contract.check(graph, verbose=False).kept is is_kept


# --- Access -----------------------------------------------------------------------------------------------------------


def test_every_view_says_who_may_see_it():
    unmarked = [route for route, view in _views() if not getattr(view, "access", "")]
    assert unmarked == [], "mark these views with @public, @signed_in or @member_required"


def test_addresses_of_an_organisation_are_for_its_members():
    portal = {route: getattr(view, "access", "") for route, view in _views() if route.startswith("o/<")}
    wrong = [route for route, access in portal.items() if not access.startswith("member:")]
    assert wrong == []


def test_only_addresses_of_an_organisation_are_for_members():
    members = [route for route, view in _views() if getattr(view, "access", "").startswith("member:")]
    wrong = [route for route in members if not route.startswith("o/<")]
    assert wrong == []


def _views() -> Iterator[tuple[str, Any]]:
    """(address, view) of every page; DRF's views have scopes instead."""
    for route, view in _leaves(get_resolver().url_patterns, ""):
        is_foreign = route.startswith("admin/") or view.__module__.startswith(FOREIGN_VIEWS)
        if not is_foreign and not hasattr(view, "cls"):
            yield route, view


def _leaves(patterns: list[URLPattern | URLResolver], prefix: str) -> Iterator[tuple[str, Any]]:
    for pattern in patterns:
        route = prefix + str(pattern.pattern)
        if isinstance(pattern, URLResolver):
            yield from _leaves(pattern.url_patterns, route)
        else:
            yield route, pattern.callback


# --- Models -----------------------------------------------------------------------------------------------------------


def test_every_model_of_an_organisation_is_owned_by_it():
    loose = {
        model._meta.label
        for model in _our_models()
        if _has_organisation(model) and not issubclass(model, OrganisationOwned)
    }
    assert loose == set(ORGANISATION_IN_ANOTHER_WAY)


@pytest.mark.django_db
def test_migrations_are_complete():
    call_command("makemigrations", check=True, dry_run=True, verbosity=0)


def test_every_task_of_the_schedule_exists():
    current_app.loader.import_default_modules()
    assert {entry["task"] for entry in SCHEDULE.values()} <= set(current_app.tasks)


def _our_models() -> list[type[models.Model]]:
    return [model for app in OUR_APPS for model in apps.get_app_config(app).get_models()]


def _has_organisation(model: type[models.Model]) -> bool:
    return any(field.name in {"organisation", "organisation_id"} for field in model._meta.concrete_fields)


# --- Templates --------------------------------------------------------------------------------------------------------

TEMPLATES = sorted(path for path in (ROOT / "templates").rglob("*") if path.is_file() and path.suffix != ".md")
PAGES = [path for path in TEMPLATES if path.suffix == ".html" and "emails" not in path.parts]
INLINE = {
    "an inline script": re.compile(r"<script(?![^>]*\bsrc=)", re.IGNORECASE),
    "a style element": re.compile(r"<style\b", re.IGNORECASE),
    "a style attribute": re.compile(r"<[^>]*\sstyle\s*=", re.IGNORECASE),
    "an event attribute": re.compile(r"<[^>]*\s(?:on[a-z]+|hx-on[:a-z-]*)\s*=", re.IGNORECASE),
    "a javascript address": re.compile(r"""["']\s*javascript:""", re.IGNORECASE),
}


def _name(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", TEMPLATES, ids=_name)
def test_every_template_compiles(path):
    get_template(str(path.relative_to(ROOT / "templates")))


@pytest.mark.parametrize("path", PAGES, ids=_name)
def test_no_page_brings_code_or_style_inline(path):
    source = path.read_text(encoding="utf-8")
    assert [what for what, pattern in INLINE.items() if pattern.search(source)] == []


@pytest.mark.parametrize("path", PAGES, ids=_name)
def test_templates_extend_first_and_load_next(path):
    tags = re.findall(r"{%\s*(\w+)", path.read_text(encoding="utf-8"))
    assert "extends" not in tags[1:], "{% extends %} comes first"


# --- Commands ---------------------------------------------------------------------------------------------------------


def _our_commands() -> list[tuple[str, str]]:
    return sorted((app, name) for name, app in get_commands().items() if app in OUR_APPS)


@pytest.mark.parametrize(("app", "name"), _our_commands())
def test_every_command_can_answer_in_json(app, name):
    command = load_command_class(app, name)
    parser = command.create_parser("manage.py", name)
    assert "--json" in {option for action in parser._actions for option in action.option_strings}
    assert command.help, "a command says what it does"


# --- Files ------------------------------------------------------------------------------------------------------------

# Written in two parts, so that this file does not contain them.
MARKERS = re.compile(r"\b(TO" r"DO|FIX" r"ME)\b|#\s*(XX" r"X|HA" r"CK)|NotImpl" r"ementedError|mark\.sk" r"ip")


def _sources() -> list[Path]:
    paths = [path for folder in OUR_FOLDERS for path in (ROOT / folder).rglob("*") if path.is_file()]
    paths += [ROOT / name for name in ("kilotoken", "manage.py", "pyproject.toml", "README.md", "CHANGELOG.md")]
    return [path for path in paths if path.exists() and "__pycache__" not in path.parts]


def test_no_file_is_long():
    long = [
        f"{_name(path)}: {lines} lines"
        for path in _sources()
        if path.suffix in {".py", ".html", ".js"}
        and "migrations" not in path.parts
        and (lines := len(path.read_text(encoding="utf-8").splitlines())) > MOST_LINES
    ]
    assert long == []


def test_nothing_is_left_for_later():
    marked = [
        f"{_name(path)}:{number}: {line.strip()}"
        for path in _sources()
        for number, line in enumerate(path.read_text(encoding="utf-8", errors="ignore").splitlines(), start=1)
        if MARKERS.search(line)
    ]
    assert marked == []


@pytest.mark.parametrize("name", ["requirements.lock", "requirements-dev.lock", "requirements-uv.lock"])
def test_locks_name_no_host_and_pin_every_package_by_digest(name):
    lock = (ROOT / name).read_text(encoding="utf-8")
    assert "://" not in lock
    entries = re.split(r"\n(?=\S)", lock.strip())
    assert all("==" in entry and "--hash=sha256:" in entry for entry in entries)


# --- README -----------------------------------------------------------------------------------------------------------


def test_readme_explains_every_variable_and_names_every_command():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    settings = (ROOT / "config" / "settings.py").read_text(encoding="utf-8")
    wanted = set(re.findall(r"""\benv\.\w+\(\s*"([A-Z_]+)\"""", settings)) | {name for _, name in _our_commands()}
    assert {name for name in wanted if f"`{name}`" not in readme} == set()
