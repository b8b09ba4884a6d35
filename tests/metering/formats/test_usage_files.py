"""Rows of CSV, JSON lines and Parquet: each comes out as a draft or as a refusal of its line, whatever it holds."""

import csv
import io
import json
from contextlib import suppress
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from metering.drafts import Draft, Refusal
from metering.exact_json import check_storable, decode_object
from metering.formats.usage_files import UnusableFile, drafts, look_over
from metering.formats.usage_files.rows import LONGEST_LINE

NOON = datetime(2026, 11, 15, 12, tzinfo=UTC)


def read(path: Path, **options) -> list[tuple[int, Draft | Refusal]]:
    columns = options.pop("columns", None)
    terms = {"type": "ai.usage", "subject": "org_x", "model": "m-1"} | options
    return list(drafts(look_over(path, columns), **terms))


def parquet(path: Path, columns: dict, **options) -> Path:
    pq.write_table(pa.table(columns), path / "u.parquet", **options)
    return path / "u.parquet"


def only(path: Path, **options) -> Draft | Refusal:
    [(_, one)] = read(path, **options)
    return one


# --- Parquet ----------------------------------------------------------------------------------------------------------


def test_flat_columns_of_parquet_keep_every_digit(tmp_path):
    exact = Decimal("123456789012345678.123456789012345678")
    path = parquet(
        tmp_path,
        {
            "time": pa.array([NOON], pa.timestamp("ns", "Europe/Berlin")),
            "input_tokens": pa.array([2**53 + 1], pa.int64()),
            "output_tokens": pa.array([exact], pa.decimal128(38, 18)),
            "seconds": pa.array([0.1], pa.float64()),
            "single": pa.array([0.1], pa.float32()),
            "cache_read_tokens": pa.array([None], pa.int64()),
        },
    )
    names = ("time", "input_tokens", "output_tokens", "seconds", "single", "cache_read_tokens")
    draft = only(path, columns={name: name for name in names})
    assert draft.time == NOON
    assert draft.data == {
        "model": "m-1",
        "input_tokens": 2**53 + 1,
        "output_tokens": exact,
        "seconds": Decimal("0.1"),
        "single": Decimal("0.1"),
    }
    assert b"123456789012345678.123456789012345678" in draft.raw_data


@pytest.mark.parametrize(
    "times",
    [
        pa.array([NOON.replace(tzinfo=None)], pa.timestamp("us")),
        pa.array([NOON], pa.timestamp("s", "UTC")),
        pa.array(["2026-11-15 13:00:00+01:00"]),
        pa.array(["2026-11-15T12:00:00Z"]).dictionary_encode(),
    ],
    ids=["naive", "seconds", "text", "dictionary"],
)
def test_times_of_parquet_come_in_many_forms(tmp_path, times):
    assert only(parquet(tmp_path, {"time": times, "input_tokens": [1]})).time == NOON


def test_a_day_stands_for_its_midnight(tmp_path):
    draft = only(parquet(tmp_path, {"date": pa.array([date(2026, 11, 15)]), "input_tokens": [1]}))
    assert draft.time == NOON.replace(hour=0)


def test_data_may_be_an_object_or_its_json(tmp_path):
    data = {"input_tokens": 5, "nested": {"price": 0.3}, "unknown": None}
    nested = only(parquet(tmp_path, {"time": ["2026-11-15"], "data": pa.array([data])}))
    text = only(parquet(tmp_path, {"time": ["2026-11-15"], "data": [json.dumps(data)]}))
    expected = {"model": "m-1", "input_tokens": 5, "nested": {"price": Decimal("0.3")}}
    assert nested.data == text.data == expected


def test_rows_of_parquet_are_numbered_across_row_groups(tmp_path):
    count = 2_500
    path = parquet(tmp_path, {"time": ["2026-11-15"] * count, "input_tokens": range(count)}, row_group_size=700)
    rows = read(path)
    assert [line for line, _ in rows] == list(range(1, count + 1))
    assert [draft.data["input_tokens"] for _, draft in rows] == list(range(count))
    assert {draft.source for _, draft in rows} == {look_over(path).source}


def test_a_row_of_parquet_that_cannot_be_read_spoils_no_other(tmp_path):
    days = pa.array([0, 2**31 - 1, 1], pa.int32()).cast(pa.date32())
    rows = read(parquet(tmp_path, {"time": days, "data": ["{}", "{}", "{"]}))
    assert [type(one).__name__ for _, one in rows] == ["Draft", "Refusal", "Refusal"]
    assert "out of the calendar" in rows[1][1].detail
    assert rows[2][1].event_id == "3"


def test_what_is_no_parquet_is_explained(tmp_path):
    path = tmp_path / "u.parquet"
    path.write_bytes(b"PAR1 nothing more")
    with pytest.raises(UnusableFile, match="not a Parquet file"):
        look_over(path)
    with pytest.raises(UnusableFile, match="no rows"):
        look_over(parquet(tmp_path, {"time": pa.array([], pa.string())}))


# --- What rows may say ------------------------------------------------------------------------------------------------


def written(path: Path, text: str, name: str = "u.csv") -> Path:
    (path / name).write_text(text)
    return path / name


def test_rows_may_bring_ids_and_a_source_of_their_own(tmp_path):
    path = written(tmp_path, "event_id,time,input_tokens\nreq-1,2026-11-15,5\n,2026-11-15,6\n")
    first, second = (one for _, one in read(path, source="gateway"))
    assert (first.source, first.event_id) == ("gateway", "req-1")
    assert second.event_id == f"{look_over(path).digest[:32]}:3"


def test_a_column_called_id_means_nothing_by_itself(tmp_path):
    assert only(written(tmp_path, "id,time,input_tokens\nuser 5,2026-11-15,5\n")).event_id == "2"


def test_rows_may_be_corrections(tmp_path):
    text = (
        "type,corrects_source,corrects_id,reason,output_tokens\n"
        "kilotoken.void,gateway,r-1,Sent twice,\n"
        "kilotoken.amendment,gateway,r-2,,12\n"
        "kilotoken.void,gateway,,,\n"
    )
    void, amendment, nameless = (one for _, one in read(written(tmp_path, text)))
    assert (void.type, void.time) == ("kilotoken.void", None)
    assert void.data == {"corrects": {"source": "gateway", "id": "r-1"}, "reason": "Sent twice"}
    assert amendment.data == {
        "corrects": {"source": "gateway", "id": "r-2"},
        "data": {"model": "m-1", "output_tokens": 12},
    }
    assert "names both" in nameless.detail


def test_lines_that_are_cloudevents_keep_their_names(tmp_path):
    event = {
        "specversion": "1.0",
        "id": "a",
        "source": "s",
        "type": "t",
        "subject": "key_1",
        "time": "2026-11-15T12:00Z",
    }
    draft = only(written(tmp_path, json.dumps(event | {"data": {"input_tokens": 1}}), "u.ndjson"), model=None)
    assert (draft.source, draft.event_id, draft.type, draft.subject) == ("s", "a", "t", "key_1")
    assert draft.data == {"input_tokens": 1}


def test_only_the_columns_that_are_named_are_kept_even_of_what_is_refused(tmp_path):
    refusal = only(written(tmp_path, "time,prompt,input_tokens\nnever,secret words,1\n"))
    assert b"secret words" not in refusal.body
    assert b"never" in refusal.body


def test_columns_of_one_name_are_refused(tmp_path):
    with pytest.raises(UnusableFile, match="Two columns"):
        look_over(written(tmp_path, "time,a,a\n2026-11-15,1,2\n"))


def test_a_line_without_end_is_passed_over_in_bounded_memory(tmp_path):
    good = '{"time": "2026-11-15", "input_tokens": 1}\n'
    rows = read(written(tmp_path, good + "x" * (3 * LONGEST_LINE) + "\n" + good, "u.ndjson"))
    assert [(line, type(one).__name__) for line, one in rows] == [(1, "Draft"), (2, "Refusal"), (3, "Draft")]
    assert len(rows[1][1].body) == LONGEST_LINE


def test_a_cell_too_long_for_csv_refuses_its_line_only(tmp_path):
    rows = read(written(tmp_path, f"time,input_tokens\n2026-11-15,1\n2026-11-15,{'9' * 200_000}\n2026-11-15,2\n"))
    assert [(line, type(one).__name__) for line, one in rows] == [(2, "Draft"), (3, "Refusal"), (4, "Draft")]


# --- Whatever comes ---------------------------------------------------------------------------------------------------

ANYTHING = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
CELLS = st.one_of(
    st.text(max_size=20),
    st.sampled_from(["", "2026-11-15", "NaN", "1e400", "-0", "{}", '{"a": 1}', "[" * 90, "\x00", "9" * 50, "\ud800"]),
)


def check(found: list[tuple[int, Draft | Refusal]]) -> None:
    """Each is whole: storable, and named so that it can be told apart."""
    assert len({one.event_id for _, one in found}) == len(found)
    for line, one in found:
        assert line >= 1
        if isinstance(one, Draft):
            check_storable(one.raw_data, decode_object(one.raw_data))
            assert all(1 <= len(name) <= 255 for name in (one.source, one.event_id, one.type, one.subject))
        else:
            assert one.detail


@ANYTHING
@given(rows=st.lists(st.lists(CELLS, min_size=3, max_size=3), min_size=1, max_size=8))
def test_no_row_of_csv_is_lost(tmp_path, rows):
    text = io.StringIO(newline="")
    csv.writer(text).writerows([["time", "data", "x"], *rows])
    path = tmp_path / "u.csv"
    path.write_bytes(text.getvalue().encode("utf-8", "surrogatepass"))
    found = read(path, columns={"time": "time", "data": "data", "x": "x"})
    check(found)
    assert len(found) == len(rows)


@ANYTHING
@given(body=st.binary(max_size=300), name=st.sampled_from(["u.csv", "u.ndjson", "u.parquet"]))
def test_no_bytes_end_in_anything_but_an_explanation(tmp_path, body, name):
    path = tmp_path / name
    path.write_bytes(b'time,data\n"' + body if name == "u.csv" else body)
    with suppress(UnusableFile):
        check(read(path))


VALUES = st.one_of(
    st.tuples(st.just(pa.string()), st.lists(st.none() | st.text(max_size=12), min_size=1, max_size=6)),
    st.tuples(st.just(pa.float64()), st.lists(st.none() | st.floats(), min_size=1, max_size=6)),
    st.tuples(st.just(pa.float32()), st.lists(st.none() | st.floats(width=32), min_size=1, max_size=6)),
    st.tuples(st.just(pa.int64()), st.lists(st.none() | st.integers(-(2**63), 2**63 - 1), min_size=1, max_size=6)),
    st.tuples(st.just(pa.bool_()), st.lists(st.none() | st.booleans(), min_size=1, max_size=6)),
    st.tuples(st.just(pa.binary()), st.lists(st.none() | st.binary(max_size=9), min_size=1, max_size=6)),
    st.tuples(st.just(pa.list_(pa.float64())), st.lists(st.none() | st.lists(st.floats(), max_size=3), min_size=1)),
)


@ANYTHING
@given(kind_and_values=VALUES, unit=st.sampled_from(["ms", "us", "ns"]), start=st.integers(-(2**62), 2**62))
def test_no_row_of_parquet_is_lost(tmp_path, kind_and_values, unit, start):
    kind, values = kind_and_values
    cells = pa.array(values, kind)
    times = pa.array([start] * len(values), pa.int64()).cast(pa.timestamp(unit))
    path = parquet(tmp_path, {"time": times, "x": cells, "data": pa.StructArray.from_arrays([cells], ["y"])})
    found = read(path, columns={"time": "time", "x": "x", "data": "data"})
    check(found)
    assert len(found) == len(values)


@ANYTHING
@given(place=st.integers(0, 10_000), byte=st.integers(0, 255))
def test_a_damaged_parquet_file_is_told_and_breaks_nothing(tmp_path, place, byte):
    path = parquet(tmp_path, {"time": ["2026-11-15"] * 50, "input_tokens": range(50)}, compression="none")
    content = bytearray(path.read_bytes())
    content[place % len(content)] = byte
    path.write_bytes(content)
    with suppress(UnusableFile):
        check(read(path))
