"""What narrows a key: the models it may call, the networks it may call from, and the notes its owner keeps with it.

Pure. Restrictions are checked and put into one form before they are stored, so that whoever asks them compares and
never parses twice. An empty list restricts nothing.
"""

import ipaddress
import re
from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase

from accounts.errors import DomainError

MOST_MODELS = 100
LONGEST_MODEL = 120
MOST_NETWORKS = 100
MOST_METADATA = 20
LONGEST_METADATA_KEY = 40
LONGEST_METADATA_VALUE = 500

# What names of models are made of (`openai/gpt-5-mini`, `llama3:8b`), and the signs of shell patterns.
_MODEL_PATTERN = re.compile(r"[A-Za-z0-9._:/@+\-*?\[\]!]+")
_METADATA_KEY = re.compile(r"[A-Za-z0-9_.\-]+")


class InvalidModels(DomainError):
    code = "invalid_models"
    status = 422
    sentence = "Name models such as gpt-5-mini or claude-*, at most 100."


class InvalidNetworks(DomainError):
    code = "invalid_networks"
    status = 422
    sentence = "Name networks such as 203.0.113.0/24 or 2001:db8::/32, at most 100."


class InvalidMetadata(DomainError):
    code = "invalid_metadata"
    status = 422
    sentence = (
        "Metadata are at most 20 texts of 500 characters, each under a name of at most 40 letters, digits, "
        "hyphens, dots and underscores."
    )


def valid_models(patterns: Iterable[str]) -> list[str]:
    """The patterns without blanks and repetitions, in their order."""
    models = _distinct(patterns)
    if len(models) > MOST_MODELS:
        raise InvalidModels
    for model in models:
        if len(model) > LONGEST_MODEL or not _MODEL_PATTERN.fullmatch(model):
            raise InvalidModels(f"“{model[:LONGEST_MODEL]}” is not the name of a model or a pattern such as claude-*.")
    return models


def valid_networks(networks: Iterable[str]) -> list[str]:
    """The networks as CIDR in canonical form, without repetitions; one address becomes a network of one."""
    written = _distinct(networks)
    if len(written) > MOST_NETWORKS:
        raise InvalidNetworks
    return _distinct(_canonical_network(text) for text in written)


def valid_metadata(metadata: Mapping[str, str]) -> dict[str, str]:
    """The same, if it is a bounded mapping of texts to texts."""
    if len(metadata) > MOST_METADATA:
        raise InvalidMetadata
    for key, value in metadata.items():
        if not isinstance(key, str) or not _METADATA_KEY.fullmatch(key) or len(key) > LONGEST_METADATA_KEY:
            raise InvalidMetadata
        if not isinstance(value, str) or len(value) > LONGEST_METADATA_VALUE or "\x00" in value:
            raise InvalidMetadata
    return dict(metadata)


def allows_model(patterns: Iterable[str], model: str) -> bool:
    """Whether one of the shell-style patterns fits the whole name, case counted; no patterns allow every model."""
    patterns = tuple(patterns)
    return not patterns or any(fnmatchcase(model, pattern) for pattern in patterns)


def allows_address(networks: Iterable[str], address: str | None) -> bool:
    """Whether an address lies in one of the networks; no networks allow every address, and even none.

    Restricted to networks, an address that is missing or cannot be read is refused. IPv4 inside IPv6
    (`::ffff:203.0.113.7`) counts as IPv4.
    """
    networks = tuple(networks)
    if not networks:
        return True
    try:
        caller = ipaddress.ip_address((address or "").strip())
    except ValueError:
        return False
    if isinstance(caller, ipaddress.IPv6Address) and caller.ipv4_mapped is not None:
        caller = caller.ipv4_mapped
    return any(caller in ipaddress.ip_network(network) for network in networks)


def _distinct(texts: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(text.strip() for text in texts if text.strip()))


def _canonical_network(text: str) -> str:
    try:
        return str(ipaddress.ip_network(text))
    except ValueError:
        pass
    try:
        meant = ipaddress.ip_network(text, strict=False)
    except ValueError:
        raise InvalidNetworks(f"“{text[:60]}” is not a network such as 203.0.113.0/24 or 2001:db8::/32.") from None
    raise InvalidNetworks(f"“{text}” names an address inside a network: write {meant} for the whole network.")
