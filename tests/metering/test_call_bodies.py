"""What a call's body says about it: the model, the sizes, and nothing that could be talked past the model server."""

import json
from contextlib import suppress

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from accounts.problems import Problem
from metering.api.call_bodies import MOST_TOKENS, ToldByBody, told_by


def told(**body):
    return told_by(json.dumps(body).encode())


def test_a_chat_completion_says_its_model_its_user_and_its_sizes():
    messages = [
        {"role": "user", "content": "x" * 400},
        {"role": "user", "content": [{"type": "text", "text": "y" * 40}]},
    ]
    assert told(model="m-1", user="ada", max_tokens=50, messages=messages, stream=True) == ToldByBody(
        "m-1", "ada", 110 + 8 + 1, 50
    )


@pytest.mark.parametrize(
    ("body", "most"),
    [
        ({"max_completion_tokens": 7, "max_tokens": 9}, 7),
        ({"max_output_tokens": 8}, 8),
        ({"max_tokens": 5, "n": 3}, 15),
        ({"max_tokens": None}, None),
        ({"max_tokens": -1}, None),
        ({"max_tokens": 10**30, "n": 10**6}, MOST_TOKENS),
        ({}, None),
    ],
)
def test_the_bound_of_the_answer_is_read_in_every_form(body, most):
    assert told(**body).max_tokens == most


def test_images_are_no_text_and_other_scripts_are_longer():
    image = [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:" + "A" * 100_000}}]}]
    assert told(messages=image).prompt_tokens == 5
    assert told(input="語" * 40).prompt_tokens == 31
    assert told(prompt=["a" * 40, "b" * 40]).prompt_tokens == 21
    assert told(system="a" * 40, messages=[]).prompt_tokens == 11


def test_what_is_no_json_says_nothing():
    assert told_by(b"--boundary\r\nContent-Disposition: form-data") == ToldByBody()
    assert told_by(b"\x1f\x8b\x00") == ToldByBody()


@pytest.mark.parametrize(
    "raw",
    [
        b'{"model": "small", "temperature": NaN}',
        b'{"model": "small"',
        b'[{"model": "small"}]',
        b'{"model": 7}',
        b'{"model": "two\\nlines"}',
        b'{"model": "' + b"m" * 201 + b'"}',
        b'{"messages": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'\xff{"model": "x"}',
    ],
)
def test_json_that_cannot_be_read_is_refused_rather_than_passed_over(raw):
    with pytest.raises(Problem) as refused:
        told_by(raw, content_type="application/json")
    assert refused.value.status_code == 400


def test_of_a_member_that_comes_twice_the_last_counts_as_for_most_servers():
    assert told_by(b'{"model": "small", "model": "large"}').model == "large"


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(raw):
    with suppress(Problem):
        told_by(raw, content_type="application/json")


TEXTS = st.text("ab\x00é\n", max_size=5)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["content", "text", "x"]), inner),
    max_leaves=6,
)
MEMBERS = ("model", "user", "max_tokens", "max_completion_tokens", "n", "messages", "input", "prompt", "tools")


@settings(suppress_health_check=[HealthCheck.too_slow], max_examples=60)
@given(st.dictionaries(st.sampled_from(MEMBERS), VALUES))
def test_any_object_is_read_or_refused(body):
    with suppress(Problem):
        found = told_by(json.dumps(body).encode())
        assert found.prompt_tokens >= 1
        assert found.max_tokens is None or 0 <= found.max_tokens <= MOST_TOKENS
