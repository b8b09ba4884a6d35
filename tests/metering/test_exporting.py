"""The export and its verifier, run as a customer runs it: plain Python, isolated, in another folder."""

import io
import json
import subprocess
import sys
import zipfile
from datetime import date
from pathlib import Path

import pytest
import time_machine
from django.core.management import CommandError, call_command

from metering.exporting import EVENTS, MANIFEST, VERIFIER, EventsDropped, NothingSealed, plan_export, zip_pieces
from metering.leaves import TILE_LEAVES
from tests.metering.sealed_world import at, receive, seal, unguarded

pytestmark = pytest.mark.django_db
NOW = at(15)


@pytest.fixture
def exported(acme, tmp_path, capsys) -> Path:
    """Three sealed days in a folder."""
    receive(acme, 10, 1, 2, 3)
    receive(acme, 11, *range(1000, 1005 + TILE_LEAVES))
    receive(acme, 13, 4)
    seal(at(14))
    export(acme, tmp_path)
    return tmp_path


def export(organisation, folder, *options):
    with time_machine.travel(NOW, tick=False):
        call_command("export_events", "--organisation", organisation.slug, "--output", str(folder), "--json", *options)


def verify(folder, *options, code=0):
    """What the verifier says; it sees nothing but the standard library and the three files."""
    command = [sys.executable, "-I", VERIFIER, EVENTS, MANIFEST, "--json", *options]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, env={})
    assert done.returncode == code, done.stdout + done.stderr
    return json.loads(done.stdout) if done.stdout else done.stderr


def edit(path, old, new):
    text = path.read_text(encoding="utf-8")
    assert text.count(old) == 1
    path.write_text(text.replace(old, new), encoding="utf-8")


def test_an_untouched_export_passes(exported):
    result = verify(exported)
    assert result == {"checked": {"seals": 3, "days": 3, "events": 9 + TILE_LEAVES, "readings": 0}, "findings": []}


def test_it_also_says_so_in_words(exported):
    command = [sys.executable, "-I", VERIFIER, EVENTS, MANIFEST]
    done = subprocess.run(command, cwd=exported, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "Everything agrees."


def test_one_digit_changed_fails_and_names_the_day(exported):
    edit(exported / EVENTS, '"input_tokens": 2}', '"input_tokens": 3}')
    [finding] = verify(exported, code=1)["findings"]
    assert finding.startswith("2026-11-10: an event was changed")


def test_a_line_taken_out_doubled_or_moved_fails(exported):
    path = exported / EVENTS
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(lines[1:]))
    assert verify(exported, code=1)["findings"] == ["2026-11-10: 3 events are sealed, 2 are here."]
    path.write_text("".join([lines[0], *lines]))
    assert "out of order or there twice" in verify(exported, code=1)["findings"][0]
    path.write_text("".join([lines[1], lines[0], *lines[2:]]))
    assert "out of order or there twice" in verify(exported, code=1)["findings"][0]
    path.write_text("".join(lines[:-1]))
    assert verify(exported, code=1)["findings"] == ["2026-11-13: 1 events are sealed and none are here."]


def test_events_and_root_changed_together_break_the_digest_and_digests_the_chain(exported):
    manifest = json.loads((exported / MANIFEST).read_text())
    manifest["seals"][0]["event_count"] = 4
    (exported / MANIFEST).write_text(json.dumps(manifest))
    assert "the seal's digest does not follow from its figures" in verify(exported, code=1)["findings"][0]
    del manifest["seals"][0]
    (exported / MANIFEST).write_text(json.dumps(manifest))
    assert "does not continue the one before it" in verify(exported, code=1)["findings"][0]


def test_a_head_noted_earlier_must_be_in_the_chain(exported):
    manifest = json.loads((exported / MANIFEST).read_text())
    head = manifest["seals"][-1]["digest"]
    verify(exported, "--head", head)
    assert "cut off or written anew" in verify(exported, "--head", "0" * 64, code=1)["findings"][0]


def test_spelling_of_data_makes_no_difference(exported):
    path = exported / EVENTS
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    path.write_text("".join(json.dumps(line, sort_keys=True) + "\n" for line in lines))
    verify(exported)


def test_what_is_no_export_is_told_apart_from_what_is_wrong(exported):
    edit(exported / MANIFEST, '"format": 1', '"format": 7')
    assert "not a manifest of format 1" in verify(exported, code=2)
    (exported / EVENTS).unlink()
    edit(exported / MANIFEST, '"format": 7', '"format": 1')
    assert "Cannot check this" in verify(exported, code=2)


def test_a_range_of_days_can_be_exported_and_checked_alone(acme, exported, tmp_path):
    part = tmp_path / "part"
    export(acme, part, "--from", "2026-11-11", "--to", "2026-11-12")
    assert verify(part)["checked"] == {"seals": 3, "days": 1, "events": 5 + TILE_LEAVES, "readings": 0}
    manifest = json.loads((part / MANIFEST).read_text())
    assert (manifest["from"], manifest["to"]) == ("2026-11-11", "2026-11-12")


def test_numbers_and_texts_of_every_kind_survive_the_way(acme, tmp_path, draft):
    import msgspec

    from tests.metering.conftest import take

    raw = (
        '{"model": "q\\"\\\\\\n\\t€😀\\u001f\\u007f/", "n": [1.50, 1e3, -0.0, 1E-7, 123456789012345678901234567890, '
        '0.1000000000000000055511151231257827], "ü": {"Z": null, "a": true}, "z": ""}'
    )
    take(msgspec.structs.replace(draft("odd \u2028 id", source="a/b?c=ü"), raw_data=raw.encode()), now=NOW)
    with time_machine.travel(at(17), tick=False):
        seal(at(17))
        call_command("export_events", "--organisation", acme.slug, "--output", str(tmp_path), "--json")
    assert verify(tmp_path)["checked"]["events"] == 1


def test_the_zip_holds_the_same_files(acme, exported):
    pieces = b"".join(zip_pieces(plan_export(acme, now=NOW), NOW))
    archive = zipfile.ZipFile(io.BytesIO(pieces))
    assert archive.testzip() is None
    for name in (EVENTS, MANIFEST, VERIFIER):
        assert archive.read(name) == (exported / name).read_bytes()


def test_nothing_sealed_is_an_error_with_a_code(acme, tmp_path, capsys):
    receive(acme, 14, 1)
    with pytest.raises(CommandError, match="No day of this range is sealed"):
        export(acme, tmp_path)
    assert json.loads(capsys.readouterr().out)["error"]["code"] == "nothing_sealed"


def test_an_unfinished_or_unsealed_day_is_left_out(acme, exported):
    receive(acme, 14, 5)
    assert plan_export(acme, now=NOW, last=date(2026, 12, 31)).last == date(2026, 11, 13)
    seal(NOW)
    assert plan_export(acme, now=NOW, last=date(2026, 12, 31)).last == date(2026, 11, 14)


def test_days_that_are_no_longer_kept_are_said_to_be(acme, exported):
    with unguarded() as cursor:
        cursor.execute("ALTER TABLE event DETACH PARTITION event_2026_11")
    with pytest.raises(EventsDropped, match="2026-11-10 are no longer kept"):
        plan_export(acme, now=NOW, first=date(2026, 11, 1))
    with pytest.raises(NothingSealed):
        plan_export(acme, now=NOW)
