"""Identifiers that leave the house: a prefix that says what it is and 95 random bits; never a serial number."""

import secrets

# No vowels and nothing that reads like another character: ids are read aloud and never spell a word.
ALPHABET = "23456789bcdfghjkmnpqrstvwxz"
LENGTH = 20
PAIRS = [first + second for first in ALPHABET for second in ALPHABET]


def new_public_id(prefix: str) -> str:
    """`org_7k2m…`: the prefix, an underscore and 20 characters."""
    number, pairs = secrets.randbelow(len(PAIRS) ** (LENGTH // 2)), []
    for _ in range(LENGTH // 2):
        number, place = divmod(number, len(PAIRS))
        pairs.append(PAIRS[place])
    return f"{prefix}_{''.join(pairs)}"


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
