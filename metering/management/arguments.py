"""What metering's commands are told on the command line."""

from argparse import ArgumentTypeError
from datetime import datetime

from accounts.errors import DomainError
from accounts.models import Organisation


class NoSuchOrganisationError(DomainError):
    code = "unknown_organisation"
    sentence = "There is no such organisation."


def instant(text: str) -> datetime:
    """An ISO 8601 instant with its offset from UTC."""
    try:
        at = datetime.fromisoformat(text)
    except ValueError as error:
        raise ArgumentTypeError(f"{text!r} is not an instant such as 2026-11-01T00:00Z.") from error
    if at.tzinfo is None:
        raise ArgumentTypeError(f"{text!r} does not say which time zone: add Z or an offset such as +01:00.")
    return at


def find_organisation(name: str) -> Organisation:
    """By slug or public id."""
    organisation = Organisation.objects.named(name).first()
    if organisation is None:
        raise NoSuchOrganisationError
    return organisation
