"""The development mailbox: without a mail server, messages go to the console and into a folder that a page shows.

Keeps the newest messages only. Never part of an installation that has a mail server: the page is not there then.
"""

import email
import email.policy
import logging
import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.message import EmailMessage as ParsedMessage
from pathlib import Path

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.core.mail import EmailMessage
from django.core.mail.backends.console import EmailBackend

logger = logging.getLogger(__name__)

KEPT = 200
NAME = re.compile(r"[0-9]{8}T[0-9]{6}-[0-9]{6}-[0-9a-f]{8}")


@dataclass(frozen=True, slots=True)
class Message:
    """One stored message. `html` is empty when there was only text."""

    name: str
    sent_at: datetime
    subject: str
    sender: str
    recipients: str
    text: str
    html: str


class DevelopmentMailbox(EmailBackend):
    """Prints each message to the console and stores it as an .eml file."""

    def send_messages(self, email_messages: Sequence[EmailMessage]) -> int:
        folder = _folder()
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        for message in email_messages:
            _store(folder, message.message().as_bytes())
        _keep_newest(folder)
        return super().send_messages(email_messages)

    def write_message(self, message: EmailMessage) -> None:
        """The text as people read it: encoded for the wire, a long link would be broken over lines."""
        recipients = ", ".join(message.to)
        self.stream.write(f"E-mail to {recipients}\nSubject: {message.subject}\n\n{message.body}\n{'-' * 79}\n")


def stored_messages() -> list[Message]:
    """The messages, newest first."""
    return [message for name in _names(_folder()) if (message := stored_message(name))]


def stored_message(name: str) -> Message | None:
    """The message of that name; None when there is none, or when it went meanwhile."""
    if not NAME.fullmatch(name):
        return None
    try:
        content = (_folder() / f"{name}.eml").read_bytes()
    except FileNotFoundError:
        return None
    parsed = email.message_from_bytes(content, policy=email.policy.default)
    return Message(
        name=name,
        sent_at=datetime.strptime(name[:15], "%Y%m%dT%H%M%S").replace(tzinfo=UTC),
        subject=str(parsed["Subject"] or ""),
        sender=str(parsed["From"] or ""),
        recipients=str(parsed["To"] or ""),
        text=_body(parsed, "plain"),
        html=_body(parsed, "html"),
    )


def _folder() -> Path:
    if settings.DEVELOPMENT_MAILBOX is None:
        raise ImproperlyConfigured("DEVELOPMENT_MAILBOX names no folder: there is a mail server instead.")
    return settings.DEVELOPMENT_MAILBOX


def _store(folder: Path, content: bytes) -> None:
    name = f"{datetime.now(UTC):%Y%m%dT%H%M%S-%f}-{secrets.token_hex(4)}"
    unfinished = folder / f"{name}.part"
    unfinished.write_bytes(content)
    unfinished.rename(folder / f"{name}.eml")


def _keep_newest(folder: Path) -> None:
    for name in _names(folder)[KEPT:]:
        (folder / f"{name}.eml").unlink(missing_ok=True)


def _names(folder: Path) -> list[str]:
    return sorted((path.stem for path in folder.glob("*.eml") if NAME.fullmatch(path.stem)), reverse=True)


def _body(parsed: ParsedMessage, kind: str) -> str:
    part = parsed.get_body(preferencelist=(kind,))
    return str(part.get_content()) if part is not None else ""
