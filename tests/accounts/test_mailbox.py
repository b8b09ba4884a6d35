"""The development mailbox: stores what is sent, shows it safely, and is not there with a real mail server."""

import pytest
from django.core.mail import EmailMultiAlternatives
from django.urls import reverse

from accounts import mailbox
from accounts.mailbox import DevelopmentMailbox, stored_messages


@pytest.fixture
def folder(settings, tmp_path):
    settings.DEVELOPMENT_MAILBOX = tmp_path / "mailbox"
    return settings.DEVELOPMENT_MAILBOX


def send(subject: str = "Hello", html: str = "") -> None:
    message = EmailMultiAlternatives(subject, "Open http://127.0.0.1:8000/x/ <now>", to=["nina@new.example"])
    if html:
        message.attach_alternative(html, "text/html")
    DevelopmentMailbox().send_messages([message])


def test_messages_are_kept_newest_first_and_printed(folder, capsys):
    send("First")
    send("Zweite: Grüße", html="<p>Hi</p>")

    assert [message.subject for message in stored_messages()] == ["Zweite: Grüße", "First"]
    assert stored_messages()[0].html.strip() == "<p>Hi</p>"
    assert "nina@new.example" in capsys.readouterr().out


def test_only_the_newest_are_kept(folder, monkeypatch):
    monkeypatch.setattr(mailbox, "KEPT", 3)
    for number in range(5):
        send(f"Message {number}")
    assert [message.subject for message in stored_messages()] == ["Message 4", "Message 3", "Message 2"]


def test_pages_show_a_message_with_links_to_follow(folder, client, db):
    send("Hello", html="<p style='color:red'>Hi</p><script>alert(1)</script>")
    name = stored_messages()[0].name
    listed = client.get(reverse("accounts:mailbox"))
    shown = client.get(reverse("accounts:mailbox_message", args=[name]))

    assert b"Hello" in listed.content
    assert b'<a href="http://127.0.0.1:8000/x/"' in shown.content
    assert b"&lt;now&gt;" in shown.content
    assert b"<script>alert" not in shown.content
    assert "frame-src 'self'" in shown["Content-Security-Policy"]


def test_html_of_a_message_may_do_nothing(folder, client, db):
    send("Hello", html="<p>Hi</p><script>alert(1)</script>")
    response = client.get(reverse("accounts:mailbox_html", args=[stored_messages()[0].name]))

    policy = response["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "script-src" not in policy
    assert "sandbox allow-popups" in policy
    assert "allow-scripts" not in policy
    assert response["X-Frame-Options"] == "SAMEORIGIN"


@pytest.mark.parametrize("name", ["nothing", "..", "20261122T101010-000000-00000000", "a%2Fb"])
def test_unknown_message_does_not_exist(folder, client, db, name):
    assert client.get(f"/dev/mailbox/{name}/").status_code == 404


def test_with_a_mail_server_there_is_no_mailbox(folder, settings, client, db):
    send()
    name = stored_messages()[0].name
    settings.DEVELOPMENT_MAILBOX = None
    for path in ("/dev/mailbox/", f"/dev/mailbox/{name}/", f"/dev/mailbox/{name}/html/"):
        assert client.get(path).status_code == 404


def test_a_long_link_stays_whole_on_the_console(folder, capsys):
    link = "http://127.0.0.1:8000/accounts/confirm-email/" + "x" * 120
    message = EmailMultiAlternatives("Confirm", f"Follow\n{link}\n", to=["nina@new.example"])
    DevelopmentMailbox().send_messages([message])
    assert link in capsys.readouterr().out.splitlines()
