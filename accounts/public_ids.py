"""Identifiers that leave the house: a prefix that says what it is and 95 random bits; never a serial number."""

import secrets

# No vowels and nothing that reads like another character: ids are read aloud and never spell a word.
ALPHABET = "23456789bcdfghjkmnpqrstvwxz"
LENGTH = 20


def new_public_id(prefix: str) -> str:
    """`org_7k2m…`: the prefix, an underscore and 20 characters."""
    number, characters = secrets.randbelow(len(ALPHABET) ** LENGTH), []
    for _ in range(LENGTH):
        number, place = divmod(number, len(ALPHABET))
        characters.append(ALPHABET[place])
    return f"{prefix}_{''.join(characters)}"


def organisation_id() -> str:
    return new_public_id("org")


def project_id() -> str:
    return new_public_id("proj")


def api_key_id() -> str:
    return new_public_id("key")


def token_id() -> str:
    return new_public_id("tok")


def membership_id() -> str:
    return new_public_id("member")


def invitation_id() -> str:
    return new_public_id("invite")
