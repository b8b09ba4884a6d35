"""The example server: asks, streams, asks for more, reports exactly, whoever breaks off."""

import json
import time
from collections.abc import Callable, Iterator, Mapping
from threading import Thread
from typing import Any

import pytest
import requests
from openai import OpenAI, RateLimitError

from metering.models import AdmissionSettings, Event, Hold

from kilotoken_gateway import Gateway, Settings  # isort: skip  found where conftest says
from streaming_server import Server, echo  # isort: skip

pytestmark = pytest.mark.django_db(transaction=True)


def model(request: Mapping[str, Any]) -> Iterator[str]:
    """Echoes, but for prompts that ask for trouble."""
    for word in echo(request):
        if word.startswith("slowly"):
            time.sleep(0.05)
        if word.startswith("fail"):
            raise RuntimeError("out of order")
        yield word


@pytest.fixture
def gateway(live_server, service_token, tmp_path) -> Iterator[Gateway]:
    made = Gateway(Settings(url=live_server.url, token=service_token.secret, spool=tmp_path / "spool"))
    yield made
    made.close()


@pytest.fixture
def server(gateway) -> Iterator[str]:
    running = Server(("127.0.0.1", 0), gateway, model)
    Thread(target=running.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{running.server_port}/v1"
    running.shutdown()
    running.server_close()


@pytest.fixture
def client(server) -> Callable[[str], OpenAI]:
    return lambda key: OpenAI(base_url=server, api_key=key, max_retries=0)


def say(client: OpenAI, words: str, **options: Any) -> Any:
    return client.chat.completions.create(model="echo-1", messages=[{"role": "user", "content": words}], **options)


def event_of(gateway: Gateway) -> dict[str, Any]:
    assert gateway.spool.drain(10)
    return Event.objects.get().data


def test_an_answer_is_reported_exactly(client, gateway, acme, acme_key, totals):
    answer = say(client(acme_key.secret), "to be or not to be")
    assert answer.choices[0].message.content.split() == ["to", "be", "or", "not", "to", "be"]
    assert gateway.spool.drain(10)
    assert totals(acme) == {"input_tokens": 6, "output_tokens": 6, "requests": 1}
    assert Hold.objects.get().state == "settled"


def test_a_stream_is_reported_exactly(client, gateway, acme, acme_key, totals):
    chunks = list(say(client(acme_key.secret), "one two three", stream=True, stream_options={"include_usage": True}))
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices).split() == [
        *("one", "two", "three")
    ]
    assert chunks[-1].usage.completion_tokens == 3
    assert gateway.spool.drain(10)
    assert totals(acme) == {"input_tokens": 3, "output_tokens": 3, "requests": 1}


def test_a_long_answer_asks_for_more_room(client, gateway, acme, acme_key, totals):
    say(client(acme_key.secret), "word " * 600)
    assert gateway.spool.drain(10)
    assert totals(acme)["output_tokens"] == 600
    assert float(Hold.objects.get().estimate["output_tokens"]) == 3 * 256


def test_where_there_is_no_more_room_the_answer_ends(client, gateway, acme, acme_key, limited):
    limited(acme, 300, measure="meter", meter_key="output_tokens")
    answer = say(client(acme_key.secret), "word " * 600)
    assert answer.choices[0].finish_reason == "length"
    assert event_of(gateway)["output_tokens"] == 256


def test_a_bound_of_the_request_is_kept(client, gateway, acme_key):
    answer = say(client(acme_key.secret), "word " * 20, max_tokens=5)
    assert answer.choices[0].finish_reason == "length"
    assert event_of(gateway)["output_tokens"] == 5


def test_a_refusal_is_one_that_openais_client_understands(client, acme, acme_key, limited):
    limited(acme, 0)
    with pytest.raises(RateLimitError) as refused:
        say(client(acme_key.secret), "hello")
    assert refused.value.code == "quota_exceeded"
    assert int(refused.value.response.headers["retry-after"]) > 0


def test_who_goes_in_the_middle_pays_for_what_was_made(server, gateway, acme_key):
    body = {"model": "echo-1", "stream": True, "messages": [{"role": "user", "content": "slowly " * 400}]}
    headers = {"Authorization": f"Bearer {acme_key.secret}"}
    answer = requests.post(server + "/chat/completions", json=body, headers=headers, stream=True, timeout=20)
    for number, _ in enumerate(answer.iter_lines()):
        if number > 10:
            break
    answer.close()
    deadline = time.monotonic() + 20
    while Hold.objects.get().state == "held" and not Event.objects.exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert 5 <= event_of(gateway)["output_tokens"] < 400


@pytest.mark.parametrize(("words", "made"), [("one two fail three", 2), ("fail", 0)])
def test_a_model_that_breaks_off_is_paid_for_what_it_made(server, gateway, acme_key, words, made):
    body = {"model": "echo-1", "messages": [{"role": "user", "content": words}]}
    headers = {"Authorization": f"Bearer {acme_key.secret}"}
    assert requests.post(server + "/chat/completions", json=body, headers=headers, timeout=20).status_code == 502
    assert gateway.spool.drain(10)
    assert [event.data["output_tokens"] for event in Event.objects.all()] == ([made] if made else [])
    if not made:
        assert Hold.objects.get().state == "released"


@pytest.mark.parametrize("body", ["", "[]", "{", '{"max_tokens": "many"}', '{"max_tokens": -1}'])
def test_nonsense_is_refused(server, body):
    answer = requests.post(server + "/chat/completions", data=body, timeout=20)
    assert answer.status_code == 400
    assert json.loads(answer.text)["error"]["type"] == "invalid_request_error"


def test_the_settings_of_an_outage_are_known_after_the_first_call(client, gateway, acme, acme_key):
    AdmissionSettings.objects.create(organisation=acme, when_unreachable="closed")
    say(client(acme_key.secret), "hello")
    assert not gateway.known.take_call(acme.public_id, "echo-1", 1)
