"""Who sends in the benchmarks: organisations with keys, and a service token of the operator's."""

from dataclasses import dataclass

from accounts.models import Organisation
from tests import factories

KEYS_EACH = 4


@dataclass(frozen=True)
class World:
    organisations: list[Organisation]
    # Public ids of their keys: the subjects of events.
    subjects: list[str]
    token: str


def make_world(organisations: int, prefix: str = "Sending", keys_each: int = KEYS_EACH) -> World:
    """New organisations of one owner, with a few keys each."""
    owner = factories.user(f"{prefix.lower()}@benchmark.example")
    made = [factories.organisation(f"{prefix} {number}", owner) for number in range(organisations)]
    keys = [factories.api_key(one, f"Key {number}").api_key for one in made for number in range(keys_each)]
    return World(made, [key.public_id for key in keys], factories.service_token(prefix).secret)
