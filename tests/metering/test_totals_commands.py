import json
from datetime import UTC, datetime
from decimal import Decimal

import pytest
from django.core.management import CommandError, call_command

from metering.models import UsageInterval
from tests.metering.usage_world import event, send

pytestmark = pytest.mark.django_db

NOW = datetime(2026, 11, 15, 12, 0, tzinfo=UTC)


@pytest.fixture
def used(acme_key):
    send(event(acme_key.api_key.public_id, NOW, input_tokens=10), now=NOW)


def run(capsys, *words):
    """The exit code and the document that a command prints with --json."""
    code = 0
    try:
        call_command(*words, "--json")
    except SystemExit as stopped:
        code = stopped.code
    except CommandError as error:
        code = error.returncode
    return code, json.loads(capsys.readouterr().out)


def test_aggregate_folds_until_nothing_is_pending(used, capsys):
    assert run(capsys, "aggregate") == (0, {"batches": 1, "events": 1, "pending_events": 0})
    assert run(capsys, "aggregate", "--once") == (0, {"batches": 0, "events": 0, "pending_events": 0})


def test_comparing_ends_with_one_when_totals_are_wrong_and_rebuilding_puts_them_right(used, acme, capsys):
    call_command("aggregate")
    capsys.readouterr()
    right = {"events_kept_from": None, "backfills_under_way": 0, "differences": 0, "items": []}
    assert run(capsys, "compare_totals") == (0, right)

    UsageInterval.objects.filter(value=10).update(value=Decimal("10.5"))
    code, found = run(capsys, "compare_totals", "--organisation", "acme")
    assert (code, found["differences"]) == (1, 2)
    assert found["items"][0]["value"] == "10.5"

    window = ["--organisation", acme.public_id, "--start", "2026-11-15T12:00Z", "--end", "2026-11-15T13:00+00:00"]
    assert run(capsys, "rebuild_totals", *window)[1]["intervals"] == 2
    assert run(capsys, "compare_totals")[0] == 0


@pytest.mark.parametrize(
    ("organisation", "start", "code"),
    [("nobody", "2026-11-15T12:00Z", "unknown_organisation"), ("acme", "2026-11-15T12:01Z", "unaligned_range")],
)
def test_what_cannot_be_rebuilt_is_said_with_a_code(organisation, start, code, acme, capsys):
    words = ["rebuild_totals", "--organisation", organisation, "--start", start, "--end", "2026-11-15T13:00Z"]
    status, answer = run(capsys, *words)
    assert (status, answer["error"]["code"]) == (1, code)


def test_instants_without_a_zone_are_a_wrong_call(acme):
    with pytest.raises(CommandError, match="does not say which time zone"):
        call_command("compare_totals", "--start", "2026-11-15T12:00")
