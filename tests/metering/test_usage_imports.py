"""Usage files uploaded in the admin: looked at, confirmed, imported step by step; refused lines to download."""

import csv
import io
import json
from datetime import UTC, datetime, timedelta

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import time_machine
from django.core.files.uploadedfile import SimpleUploadedFile
from django.urls import reverse

from accounts.models import AuditEntry
from metering import importing, usage_imports
from metering.formats.usage_files import UnusableFile
from metering.models import Event, RejectedEvent, UsageImport, UsageImportPiece
from metering.tasks import carry_on_usage_imports
from metering.usage_imports import FileTooLarge, NotWaiting, Terms
from tests import factories

pytestmark = pytest.mark.django_db
NOW = datetime(2026, 11, 15, 12, tzinfo=UTC)
SOON = timedelta(minutes=4)
ROWS = (
    "when,model,in,prompt\n2026-11-14 10:00,m-1,5,secret words\n2026-11-14 11:00,m-2,many,secret words\nnever,m-1,1,x\n"
)
COLUMNS = {"time": "when", "model": "model", "input_tokens": "in"}


@pytest.fixture(autouse=True)
def _now():
    with time_machine.travel(NOW, tick=False):
        yield


@pytest.fixture
def upload(acme):
    def keep(text, name="usage.csv", **options):
        content = text if isinstance(text, bytes) else text.encode()
        chunks = (content[start : start + 7] for start in range(0, len(content), 7))
        return usage_imports.keep_upload(acme, chunks, file_name=name, now=NOW, actor="test", **options)

    return keep


def many(count):
    return "time,input_tokens\n" + "".join(f"2026-11-14 10:{n % 60:02},{n}\n" for n in range(count))


def run(row, **options):
    return usage_imports.carry_on(row, **{"clock": lambda: NOW, "until": NOW + SOON, **options})


def test_a_file_is_kept_in_pieces_and_gone_when_it_is_done(upload, monkeypatch):
    monkeypatch.setattr(usage_imports, "PIECE_BYTES", 16)
    row = upload(many(40))
    assert UsageImportPiece.objects.count() == -(-row.byte_count // 16)
    usage_imports.confirm(row, Terms(row.columns), now=NOW, actor="test")
    assert run(row)
    row.refresh_from_db()
    assert (row.state, row.accepted, row.lines_done, row.percent) == ("done", 40, 41, 100)
    assert UsageImportPiece.objects.count() == 0
    assert sum(event.data["input_tokens"] for event in Event.objects.all()) == sum(range(40))


def test_columns_are_guessed_and_the_first_rows_shown(upload):
    row = upload(ROWS)
    assert (row.present, row.columns) == (["when", "model", "in", "prompt"], {"model": "model"})
    first, second, third = usage_imports.preview(row, Terms(COLUMNS))
    assert (first.line, first.meters, first.problem) == (2, ("input_tokens", "requests"), "")
    assert first.event.data == {"model": "m-1", "input_tokens": 5}
    assert "finite number" in second.problem
    assert "no time" in third.problem


def test_what_was_refused_can_be_downloaded_without_what_was_not_read(upload):
    row = usage_imports.confirm(upload(ROWS), Terms(COLUMNS), now=NOW, actor="test")
    run(row)
    row.refresh_from_db()
    assert (row.accepted, row.rejected, RejectedEvent.objects.count()) == (1, 2, 2)
    text = "".join(usage_imports.refused_lines_csv(row))
    lines = list(csv.DictReader(io.StringIO(text)))
    assert [(line["line"], line["reason"]) for line in lines] == [("3", "invalid_value"), ("4", "invalid_event")]
    assert json.loads(lines[0]["event"])["data"]["input_tokens"] == "many"
    assert "secret words" not in text
    assert AuditEntry.objects.get(action="usage_import.finished").details["rejected"] == 2


def test_an_import_that_ran_out_of_time_goes_on_where_it_was(upload, monkeypatch):
    monkeypatch.setattr(importing, "COMMIT_ROWS", 10)
    row = usage_imports.confirm(upload(many(25)), Terms(USUAL), now=NOW, actor="test")
    assert not run(row, until=NOW)
    row.refresh_from_db()
    assert (row.state, row.lines_done, row.accepted, row.leased_until) == ("running", 11, 10, None)
    carry_on_usage_imports()
    row.refresh_from_db()
    assert (row.state, row.accepted, row.duplicates) == ("done", 25, 0)


USUAL = {"time": "time", "input_tokens": "input_tokens"}


def test_a_step_that_was_cut_off_is_done_again_and_counts_once(upload, monkeypatch):
    monkeypatch.setattr(importing, "COMMIT_ROWS", 10)
    row = usage_imports.confirm(upload(many(25)), Terms(USUAL), now=NOW, actor="test")
    note = usage_imports._note

    def killed(*args, **options):
        monkeypatch.setattr(usage_imports, "_note", note)
        raise KeyboardInterrupt

    monkeypatch.setattr(usage_imports, "_note", killed)
    with pytest.raises(KeyboardInterrupt):
        run(row)
    assert Event.objects.count() == 10
    assert run(row), "another worker has it as long as the lease lasts"
    assert Event.objects.count() == 10
    later = NOW + timedelta(minutes=6)
    run(row, clock=lambda: later, until=later + SOON)
    row.refresh_from_db()
    assert (row.state, row.accepted, row.duplicates) == ("done", 15, 10)
    assert Event.objects.count() == 25


def test_the_same_file_again_changes_nothing(upload):
    for expected in ((25, 0), (0, 25)):
        row = usage_imports.confirm(upload(many(25), "other.csv"), Terms(USUAL), now=NOW, actor="test")
        run(row)
        row.refresh_from_db()
        assert (row.accepted, row.duplicates) == expected


def test_parquet_is_uploaded_like_any_other(upload, tmp_path, acme_key):
    path = tmp_path / "u.parquet"
    pq.write_table(pa.table({"time": [NOW] * 30, "input_tokens": range(30)}), path, row_group_size=7)
    row = upload(path.read_bytes(), "u.parquet")
    terms = Terms(row.columns, api_key=acme_key.api_key.public_id, model="m-1")
    assert len(usage_imports.preview(row, terms)) == 10
    run(usage_imports.confirm(row, terms, now=NOW, actor="test"))
    assert set(Event.objects.values_list("api_key_id", flat=True)) == {acme_key.api_key.pk}
    assert Event.objects.count() == 30


def test_rows_of_another_organisation_are_refused(upload, globex):
    key = factories.api_key(globex).api_key.public_id
    text = json.dumps({"specversion": "1.0", "id": "a", "source": "s", "type": "ai.usage", "subject": key})
    row = upload(text.replace("}", ', "time": "2026-11-14T10:00Z", "data": {"input_tokens": 1}}'), "e.ndjson")
    run(usage_imports.confirm(row, Terms(row.columns), now=NOW, actor="test"))
    assert Event.objects.count() == 0
    assert row.refusals.get().reason == "unknown_subject"


def test_a_file_that_cannot_be_read_is_told_and_nothing_is_kept(upload):
    for text, name in (("", "u.csv"), ("PAR1", "u.parquet"), ("a,a\n1,2\n", "u.csv")):
        with pytest.raises(UnusableFile):
            upload(text, name)
    assert UsageImport.objects.count() == UsageImportPiece.objects.count() == 0


def test_a_file_that_is_too_large_is_refused_before_it_is_kept(upload, settings):
    settings.USAGE_FILE_MAX_BYTES = 20
    with pytest.raises(FileTooLarge, match="import_usage"):
        upload(many(9))
    assert UsageImport.objects.count() == 0


def test_an_import_is_confirmed_once_and_can_be_cancelled(upload):
    row = usage_imports.confirm(upload(many(3)), Terms(USUAL), now=NOW, actor="test")
    with pytest.raises(NotWaiting):
        usage_imports.confirm(row, Terms(USUAL), now=NOW, actor="test")
    assert usage_imports.cancel(row, now=NOW, actor="test")
    assert not usage_imports.cancel(row, now=NOW, actor="test")
    carry_on_usage_imports()
    assert (Event.objects.count(), UsageImportPiece.objects.count()) == (0, 0)


def test_what_nobody_confirms_is_cancelled(upload):
    row = upload(many(3))
    with time_machine.travel(NOW + timedelta(days=8)):
        carry_on_usage_imports()
    row.refresh_from_db()
    assert row.state == "cancelled"


# --- The admin --------------------------------------------------------------------------------------------------------


@pytest.fixture
def admin(client_for, operator):
    return client_for(operator)


def address(name, *args):
    return reverse(f"admin:metering_usageimport_{name}", args=args)


def send(admin, text, organisation="acme", name="usage.csv"):
    file = SimpleUploadedFile(name, text.encode())
    return admin.post(address("upload"), {"organisation": organisation, "file": file}, follow=True).content.decode()


def test_an_operator_uploads_looks_and_imports(admin, acme):
    assert "Upload and look" in admin.get(address("upload")).content.decode()
    shown = send(admin, ROWS)
    assert "No row can be shown yet" in shown
    row = UsageImport.objects.get()
    said = {"event_type": "ai.usage", "column_0": "time", "column_1": "model", "column_2": "input_tokens"}
    look = address("look", row.pk)
    looked = admin.post(look, said | {"look": "yes"}).content.decode()
    assert "input_tokens, requests" in looked
    assert "&#x27;never&#x27; is no time" in looked
    assert UsageImport.objects.get().state == "uploaded"
    done = admin.post(look, said | {"import": "yes"}, follow=True)
    assert "It is being imported" in done.content.decode()
    assert done["Refresh"] == "3"
    carry_on_usage_imports()
    page = admin.get(address("change", row.pk))
    assert "Refresh" not in page
    assert "100 %" in page.content.decode()
    refused = admin.get(address("refused_lines", row.pk))
    assert b"".join(refused.streaming_content).count(b"\r\n") == 3
    assert "ended already" in admin.get(look, follow=True).content.decode()
    assert AuditEntry.objects.filter(action="usage_import.confirmed", organisation=acme).exists()
    assert "usage.csv" in admin.get(address("changelist")).content.decode()


def test_mistakes_are_told_beside_the_field(admin, acme):
    assert "no such organisation" in send(admin, ROWS, organisation="none")
    assert "no rows" in send(admin, "time,model\n")
    assert "character NUL" in send(admin, "time,\x00\n2026-11-15,x\n", name="program.bin")
    send(admin, ROWS)
    look = address("look", UsageImport.objects.get().pk)
    twice = {"event_type": "ai.usage", "column_0": "time", "column_1": "time", "import": "yes"}
    assert "holds that already" in admin.post(look, twice).content.decode()
    no_time = {"event_type": "ai.usage", "column_1": "model", "import": "yes"}
    assert "which column holds the time" in admin.post(look, no_time).content.decode()
    other_key = {"event_type": "ai.usage", "column_0": "time", "api_key": "key_none", "import": "yes"}
    assert "has no API key" in admin.post(look, other_key).content.decode()
    assert UsageImport.objects.get().state == "uploaded"


def test_an_import_is_cancelled_after_asking(admin, acme):
    send(admin, ROWS)
    cancel = address("cancel_this", UsageImport.objects.get().pk)
    assert "Cancel this import?" in admin.get(cancel).content.decode()
    assert "Cancelled." in admin.post(cancel, follow=True).content.decode()
    assert "ended already" in admin.post(cancel, follow=True).content.decode()


def test_only_operators_get_there(client_for, olivia, client, acme):
    for one in (client, client_for(olivia)):
        for name in ("upload", "changelist"):
            assert one.get(address(name)).status_code == 302
