"""/o/<slug>/seals/: the sealed days, one event's proof, the export."""

import io
import json
import subprocess
import sys
import zipfile

import pytest
import time_machine
from django.urls import reverse

from metering.exporting import EVENT, EVENTS, MANIFEST, VERIFIER
from metering.exporting import PROOF as PROOF_FILE
from tests.metering.sealed_world import at, receive, seal

pytestmark = pytest.mark.django_db
PAGE, EXPORT, PROOF = "metering:seals", "metering:seals_export", "metering:seals_proof"


@pytest.fixture(autouse=True)
def _now():
    with time_machine.travel(at(15), tick=False):
        yield


@pytest.fixture
def sealed(acme):
    receive(acme, 10, *range(9))
    receive(acme, 13, 101)
    return seal(at(14))


@pytest.fixture
def get(client_for, vera):
    """What a viewer gets."""
    client = client_for(vera)
    return lambda name, headers=None, **query: client.get(reverse(name, args=["acme"]), query, headers=headers or {})


def test_before_the_first_seal_the_page_says_when_it_comes(get, acme):
    assert "No day is sealed yet" in get(PAGE).content.decode()


def test_the_page_shows_days_and_the_newest_digest(get, sealed):
    html = get(PAGE).content.decode()
    assert sealed[-1].digest in html
    assert sealed[0].root[:16] in html
    assert html.index("13 Nov 2026") < html.index("10 Nov 2026")


def test_one_event_is_proved(get, sealed):
    html = get(PAGE, source="gateway", id="e-4").content.decode()
    assert "of the 9 events sealed for" in html
    assert sealed[0].root in html


def test_htmx_gets_the_proof_alone(get, sealed):
    answer = get(PAGE, {"HX-Request": "true"}, source="gateway", id="e-4")
    html = answer.content.decode().strip()
    assert html.startswith('<div id="event-proof"')
    assert "HX-Request" in answer["Vary"]


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ({"source": "gateway", "id": "nope"}, "No event with this source and id was accepted."),
        ({"source": "", "id": ""}, "Say both the source and the id"),
        ({"source": "gateway", "id": "e-777"}, "are sealed once the day is over"),
    ],
)
def test_why_there_is_no_proof_is_said(get, acme, sealed, query, words):
    receive(acme, 14, 777)
    assert words in get(PAGE, **query).content.decode()


def test_what_is_typed_is_escaped(get, sealed):
    assert "<script>alert" not in get(PAGE, source="<script>alert(1)</script>", id="1").content.decode()


def test_the_export_passes_its_own_verifier(get, sealed, tmp_path):
    answer = get(EXPORT, first="2026-11-10")
    assert answer["Content-Disposition"] == 'attachment; filename="events-acme-2026-11-10-to-2026-11-14.zip"'
    zipfile.ZipFile(io.BytesIO(b"".join(answer))).extractall(tmp_path)
    done = subprocess.run(
        [sys.executable, "-I", VERIFIER, EVENTS, MANIFEST], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.stdout.splitlines() == ["Checked 2 seals, 2 days, 10 events, 0 readings.", "Everything agrees."]


@pytest.mark.parametrize("query", [{"first": "2026-11-14"}, {"first": "soon"}, {"last": "2026-11-01"}])
def test_an_export_of_nothing_leads_back_and_says_why(get, sealed, query):
    answer = get(EXPORT, **query)
    assert (answer.status_code, answer["Location"]) == (302, reverse(PAGE, args=["acme"]))


@pytest.mark.parametrize("name", [PAGE, EXPORT])
def test_gus_finds_nothing(client_for, gus, sealed, name):
    assert client_for(gus).get(reverse(name, args=["acme"])).status_code == 404


def test_the_page_costs_the_same_at_any_length(get, acme, sealed, django_assert_max_num_queries):
    with django_assert_max_num_queries(10):
        get(PAGE)
    receive(acme, 14, *range(500, 520))
    seal(at(15, 1))
    with django_assert_max_num_queries(10):
        get(PAGE)


def test_the_usage_page_leads_here(get, acme, sealed):
    assert reverse(PAGE, args=["acme"]) in get("metering:usage").content.decode()


# --- One proof --------------------------------------------------------------------------------------------------------


@pytest.fixture
def proved(get, acme, tmp_path):
    """The files of one downloaded proof, of an event among several tiles."""
    receive(acme, 10, *range(300))
    seal(at(14))
    answer = get(PROOF, source="gateway", id="e-7")
    assert answer["Content-Type"] == "application/zip"
    zipfile.ZipFile(io.BytesIO(answer.content)).extractall(tmp_path)
    return tmp_path


def check(folder, *options, code=0):
    """What the script says in plain Python, alone with the three files."""
    command = [sys.executable, "-I", VERIFIER, "proof", EVENT, PROOF_FILE, *options]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, env={})
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_the_page_offers_the_proof_as_a_file(get, sealed):
    assert "seals/proof.zip?source=gateway&amp;id=e-4" in get(PAGE, source="gateway", id="e-4").content.decode()


def test_a_downloaded_proof_holds_in_plain_python(proved):
    assert "Everything agrees." in check(proved)
    digest = json.loads((proved / PROOF_FILE).read_text())["seal"]["digest"]
    assert "Everything agrees." in check(proved, "--head", digest)
    assert "does not have the digest" in check(proved, "--head", "0" * 64, code=1)


def test_the_event_may_be_the_one_that_was_sent(proved, acme):
    sent = {"specversion": "1.0", "source": "gateway", "id": "e-7", "type": "ai.usage", "subject": acme.public_id}
    sent |= {"time": "2026-11-10T01:00:00+01:00", "data": {"input_tokens": 7.0, "model": "m-1"}}
    (proved / EVENT).write_text(json.dumps(sent))
    assert "Everything agrees." in check(proved)
    (proved / EVENT).write_text(json.dumps(sent | {"data": {"input_tokens": 8, "model": "m-1"}}))
    assert "The event's data is not the one that was sealed." in check(proved, code=1)


@pytest.mark.parametrize(
    ("change", "finding"),
    [
        (lambda proof: proof["path"].reverse(), "does not lead to the root"),
        (lambda proof: proof.update(index=proof["index"] ^ 1), "does not lead to the root"),
        (lambda proof: proof.update(size=proof["size"] + 1), "number of events"),
        (lambda proof: proof["seal"].update(root="0" * 64), "digest does not follow"),
        (lambda proof: proof.update(leaf_hash="0" * 64), "hash of the leaf"),
        (lambda proof: proof.update(organisation="org_other"), "digest does not follow"),
    ],
)
def test_a_proof_that_was_tampered_with_fails(proved, change, finding):
    proof = json.loads((proved / PROOF_FILE).read_text())
    change(proof)
    (proved / PROOF_FILE).write_text(json.dumps(proof))
    assert finding in check(proved, code=1)


@pytest.mark.parametrize("content", ["[]", "{}", "no json", '{"leaf": "[1]"}'])
def test_what_is_no_proof_is_told(proved, content):
    (proved / PROOF_FILE).write_text(content)
    assert "Cannot check this" in check(proved, code=2)


def test_there_is_no_proof_to_download_of_what_never_came(get, sealed):
    for query in ({"source": "gateway", "id": "none"}, {}):
        assert get(PROOF, **query).status_code == 302


def test_the_proof_of_the_api_is_the_same(proved, api, acme_access_token):
    answer = api(acme_access_token.secret).get("/v1/proofs", {"source": "gateway", "id": "e-7"})
    assert answer.json() == json.loads((proved / PROOF_FILE).read_text())
