from hypothesis import given
from hypothesis import strategies as st

from metering.formats.ndjson import lines


def test_blank_lines_and_carriage_returns_are_dropped():
    assert list(lines([b"a\r\n\n  \nb\n"], 100)) == [b"a", b"b"]


def test_a_last_line_needs_no_end():
    assert list(lines([b"a\nb"], 100)) == [b"a", b"b"]


def test_a_line_beyond_the_limit_is_cut_and_the_next_one_is_whole():
    assert list(lines([b"x" * 50, b"x" * 50, b"\nnext\n"], 60)) == [b"x" * 61, b"next"]


@given(st.lists(st.binary(max_size=20).map(lambda text: text.replace(b"\n", b"")), max_size=20), st.data())
def test_lines_do_not_depend_on_where_the_stream_is_cut(texts, data):
    whole = b"\n".join(texts)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(whole)), max_size=6)))
    chunks = [whole[start:end] for start, end in zip([0, *cuts], [*cuts, len(whole)], strict=True)]
    assert list(lines(chunks, 100)) == [text.strip() for text in texts if text.strip()]
