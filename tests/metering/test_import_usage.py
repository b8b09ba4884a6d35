import json
from datetime import UTC, datetime
from io import StringIO

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import time_machine
from django.core.management import CommandError, call_command

from metering.models import Event, IngestBatch, RejectedEvent, UsageInterval

pytestmark = pytest.mark.django_db

TRACE = """TIMESTAMP,ContextTokens,GeneratedTokens
2023-11-16 18:17:03.9799600,4808,10
2023-11-16 18:17:04.0319600,3180,8
2023-11-17 00:00:00.0000009,110,27
"""


@pytest.fixture(autouse=True)
def _in_november():
    with time_machine.travel(datetime(2026, 11, 15, 12, tzinfo=UTC), tick=False):
        yield


@pytest.fixture
def trace(tmp_path):
    def write(text=TRACE, name="trace.csv"):
        path = tmp_path / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return write


@pytest.fixture
def import_usage(acme):
    def run(path, *words, code=0):
        output, end = StringIO(), None
        try:
            call_command(
                "import_usage", str(path), "--organisation", "acme", "--model", "m-1", "--json", *words, stdout=output
            )
        except SystemExit as exit_code:
            end = exit_code.code
        except CommandError as error:
            end = error.returncode
        assert (end or 0) == code, output.getvalue()
        return json.loads(output.getvalue())

    return run


def test_every_row_becomes_an_event_of_the_file(import_usage, trace, acme):
    reply = import_usage(trace(), "--shift-to", "2026-11-01")
    assert (reply["rows"], reply["accepted"], reply["rejected"]) == (3, 3, 0)
    events = list(Event.objects.order_by("time"))
    assert [event.event_id for event in events] == ["2", "3", "4"]
    assert {event.source for event in events} == {f"file:{reply['digest']}"}
    assert {event.subject for event in events} == {acme.public_id}
    assert events[0].data == {"model": "m-1", "input_tokens": 4808, "output_tokens": 10}
    assert IngestBatch.objects.get().format == "usage_file"


def test_a_shift_moves_by_whole_days_and_keeps_time_of_day_and_spacing(import_usage, trace):
    import_usage(trace(), "--shift-to", "2026-11-01")
    assert [time.isoformat() for time in Event.objects.order_by("time").values_list("time", flat=True)] == [
        "2026-11-01T18:17:03.979960+00:00",
        "2026-11-01T18:17:04.031960+00:00",
        "2026-11-02T00:00:00+00:00",
    ]


def test_old_rows_need_the_backfill_flag(import_usage, trace):
    reply = import_usage(trace(), code=1)
    assert (reply["accepted"], reply["rejected"]) == (0, 3)
    assert reply["refused_lines"][0]["reason"] == "too_old"
    assert import_usage(trace(), "--backfill")["accepted"] == 3


@pytest.mark.parametrize("words", [["--shift-to", "2026-11-01"], ["--backfill"]])
def test_importing_again_changes_nothing_under_any_name(import_usage, trace, words):
    import_usage(trace(), *words)
    reply = import_usage(trace(name="renamed.csv"), *words)
    assert (reply["accepted"], reply["duplicates"]) == (0, 3)
    assert Event.objects.count() == 3


def test_another_shift_conflicts_and_counts_nothing_twice(import_usage, trace):
    import_usage(trace(), "--shift-to", "2026-11-01")
    reply = import_usage(trace(), "--shift-to", "2026-11-02", code=1)
    assert (reply["conflicts"], reply["accepted"]) == (3, 0)
    assert Event.objects.count() == 3


def test_an_import_that_was_cut_off_goes_on(import_usage, trace, monkeypatch):
    from metering import importing as command

    monkeypatch.setattr(command, "COMMIT_ROWS", 100)
    rows = "".join(f"2026-11-01 00:00:{second % 60:02},{second},1\n" for second in range(500))
    path = trace("TIMESTAMP,ContextTokens,GeneratedTokens\n" + rows)
    whole, calls = command.accept, []

    def stop_at_the_third(*args, **options):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return whole(*args, **options)

    monkeypatch.setattr(command, "accept", stop_at_the_third)
    with pytest.raises(KeyboardInterrupt):
        import_usage(path)
    monkeypatch.setattr(command, "accept", whole)
    assert Event.objects.count() == 200
    reply = import_usage(path)
    assert (reply["duplicates"], reply["accepted"]) == (200, 300)
    assert sum(event.data["input_tokens"] for event in Event.objects.all()) == sum(range(500))


def test_columns_can_be_named(import_usage, trace):
    path = trace("when,in,note,Out\n2026-11-01T10:00:00+02:00,12,ignored,0.5\n")
    import_usage(path, "--columns", "time=when,input_tokens=in,output_tokens=Out")
    event = Event.objects.get()
    assert event.time == datetime(2026, 11, 1, 8, tzinfo=UTC)
    assert event.data == {"model": "m-1", "input_tokens": 12, "output_tokens": 0.5}


def test_a_column_may_hold_the_model(trace, acme):
    path = trace("time,model,input_tokens\n2026-11-01,gpt-x,1\n2026-11-01,gpt-y,2\n")
    call_command("import_usage", str(path), organisation="acme", stdout=StringIO())
    assert sorted(Event.objects.values_list("data__model", flat=True)) == ["gpt-x", "gpt-y"]


def test_an_empty_cell_is_unknown_and_not_zero(import_usage, trace):
    import_usage(trace("time,input_tokens,output_tokens\n2026-11-01,,7\n"))
    assert Event.objects.get().data == {"model": "m-1", "output_tokens": 7}


def test_bad_rows_are_told_by_line_kept_and_do_not_stop_the_others(import_usage, trace):
    rows = [
        "2026-11-01,1",
        "never,2",
        "2026-11-01,NaN",
        "2026-11-01",
        "2026-11-01,1,2",
        "",
        "2026-11-01,-5",
        "2026-11-01,8",
    ]
    reply = import_usage(trace("\n".join(["time,input_tokens", *rows])), code=1)
    assert (reply["accepted"], reply["rejected"]) == (2, 5)
    assert [(refused["line"], refused["reason"]) for refused in reply["refused_lines"]] == [
        (3, "invalid_event"),
        (4, "invalid_value"),
        (5, "invalid_event"),
        (6, "invalid_event"),
        (8, "invalid_value"),
    ]
    assert RejectedEvent.objects.count() == 5


def test_json_lines_are_taken_with_the_same_columns(import_usage, trace):
    text = '{"time": "2026-11-01T00:00:00Z", "input_tokens": 5, "model": "own"}\n\nbroken\n{"time": "2026-11-02"}\n'
    reply = import_usage(trace(text, "usage.ndjson"), code=1)
    assert (reply["accepted"], reply["rejected"], reply["refused_lines"][0]["line"]) == (2, 1, 3)
    assert Event.objects.get(event_id="1").data == {"model": "own", "input_tokens": 5}


def test_usage_is_put_down_to_a_key(import_usage, trace, acme_key):
    import_usage(trace(), "--backfill", "--api-key", acme_key.api_key.public_id)
    assert set(Event.objects.values_list("api_key_id", flat=True)) == {acme_key.api_key.pk}


def test_another_organisations_key_does_not_exist(import_usage, trace, globex):
    from tests import factories

    key = factories.api_key(globex)
    reply = import_usage(trace(), "--backfill", "--api-key", key.api_key.public_id, code=1)
    assert "no API key" in reply["error"]["detail"]
    assert Event.objects.count() == 0


def test_folding_can_be_part_of_it(import_usage, trace):
    import_usage(trace(), "--backfill", "--fold")
    assert sum(UsageInterval.objects.values_list("value", flat=True)) == 4808 + 3180 + 110 + 10 + 8 + 27 + 3


def test_progress_is_shown_on_standard_error(import_usage, trace, capsys):
    import_usage(trace(), "--backfill")
    assert "trace.csv" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "words", "hint"),
    [
        (b"", [], "no rows"),
        (b"time,input_tokens\n", [], "no rows"),
        (b"a,b\n1,2\n", [], "--columns"),
        (TRACE, ["--columns", "time=TIMESTAMP,input_tokens=Missing"], "Missing"),
        (b"time,input_tokens\nnever,1\n", ["--shift-to", "2026-11-01"], "no row with a time"),
        (b"\xff\xfe\x00\x00", [], "no rows"),
    ],
)
def test_a_file_that_cannot_be_used_is_explained(import_usage, trace, text, words, hint):
    assert hint in import_usage(trace(text), *words, code=1)["error"]["detail"]


def test_a_missing_file_is_explained(import_usage, tmp_path):
    assert import_usage(tmp_path / "none.csv", code=1)["error"]["code"] == "unusable_file"


def test_lines_of_cloudevents_keep_their_names_and_may_be_corrections(trace, acme, acme_key):
    subject, time = acme_key.api_key.public_id, "2026-11-14T12:00:00Z"
    shared = {"specversion": "1.0", "source": "gateway", "subject": subject, "time": time}
    calls = [shared | {"id": f"c-{n}", "type": "ai.usage", "data": {"input_tokens": 5}} for n in range(2)]
    void = shared | {"id": "v", "type": "kilotoken.void", "data": {"corrects": {"source": "gateway", "id": "c-0"}}}
    lines = "\n\n".join(json.dumps(one) for one in (void, *calls)) + "\nnot json\n"

    def run():
        output = StringIO()
        with pytest.raises(SystemExit) as ended:
            call_command(
                "import_usage", str(trace(lines, "e.ndjson")), "--cloudevents", "--fold", "--json", stdout=output
            )
        assert ended.value.code == 1
        return json.loads(output.getvalue())

    first, again = run(), run()
    assert (first["accepted"], first["rejected"], first["refused_lines"][0]["line"]) == (3, 1, 6)
    assert (again["accepted"], again["duplicates"]) == (0, 3)
    assert sum(row.value for row in UsageInterval.objects.all()) == 6
    assert {event.api_key_id for event in Event.objects.all()} == {acme_key.api_key.pk}


def test_a_file_of_rows_needs_an_organisation(trace):
    with pytest.raises(CommandError, match="--organisation"):
        call_command("import_usage", str(trace()), "--model", "m-1")


def test_parquet_is_taken_like_any_other_file(import_usage, tmp_path):
    path = tmp_path / "usage.parquet"
    times = pa.array([datetime(2026, 11, 1, hour, tzinfo=UTC) for hour in range(20)], pa.timestamp("us", "UTC"))
    pq.write_table(pa.table({"time": times, "input_tokens": range(20)}), path, row_group_size=6)
    assert import_usage(path, "--fold")["accepted"] == 20
    assert import_usage(path)["duplicates"] == 20
    assert sum(event.data["input_tokens"] for event in Event.objects.all()) == sum(range(20))


def test_rows_may_correct_what_other_files_brought(import_usage, trace):
    import_usage(trace("event_id,time,input_tokens\na,2026-11-01,5\nb,2026-11-01,7\n"), "--source", "ledger")
    path = trace(
        "type,event_id,corrects_source,corrects_id,input_tokens,reason\n"
        "kilotoken.void,c-1,ledger,a,,Never happened\n"
        "kilotoken.amendment,c-2,ledger,b,6,Miscounted\n",
        "corrections.csv",
    )
    assert import_usage(path, "--source", "ledger", "--fold")["accepted"] == 2
    assert import_usage(path, "--source", "ledger", "--fold")["duplicates"] == 2
    # One request of six tokens.
    assert sorted(row.value for row in UsageInterval.objects.all()) == [1, 6]


def test_rows_may_name_keys_of_the_organisation_and_of_no_other(import_usage, trace, acme_key, globex):
    from tests import factories

    other = factories.api_key(globex).api_key.public_id
    own = acme_key.api_key.public_id
    path = trace(f"who,time,input_tokens\n{own},2026-11-01,5\n{other},2026-11-01,5\n,2026-11-01,5\n")
    reply = import_usage(path, "--columns", "subject=who,time=time,input_tokens=input_tokens", code=1)
    assert (reply["accepted"], reply["rejected"]) == (2, 1)
    assert reply["refused_lines"][0]["reason"] == "unknown_subject"
    assert {event.organisation.slug for event in Event.objects.all()} == {"acme"}
