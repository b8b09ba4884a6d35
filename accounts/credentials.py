"""Secrets that callers present: how they are made, digested and compared. Only digests are ever stored.

A secret holds 256 random bits, so a plain SHA-256 is a safe digest: there is nothing to guess. For API keys it is
also the digest that LiteLLM reports, which is why neither a salt nor a pepper is added.
"""

import base64
import hashlib
import hmac
import secrets
from dataclasses import dataclass

API_KEY = "sk-kt-"
SERVICE_TOKEN = "kt-service-"  # noqa: S105  the visible beginning, not a secret
ACCESS_TOKEN = "kt-access-"  # noqa: S105
INVITATION = "kt-invite-"
# Kept as it is, since it signs; shown to its owner. The form is that of standardwebhooks.com.
WEBHOOK_SECRET = "whsec_"  # noqa: S105

# 32 bytes are 256 bits and 43 characters.
RANDOM_BYTES = 32
VISIBLE_RANDOM = 4


@dataclass(frozen=True, slots=True)
class Credential:
    """A new secret and what may be kept of it."""

    secret: str
    digest: str
    prefix: str
    last_four: str


def new_credential(kind: str) -> Credential:
    """A fresh secret that begins with `kind`. The secret itself is for its owner's eyes, once."""
    random = secrets.token_urlsafe(RANDOM_BYTES)
    secret = kind + random
    return Credential(secret, digest_of(secret), kind + random[:VISIBLE_RANDOM], random[-4:])


def new_webhook_secret() -> str:
    """What signs messages to a customer's webhook: 256 random bits in base64."""
    return WEBHOOK_SECRET + base64.b64encode(secrets.token_bytes(RANDOM_BYTES)).decode()


def digest_of(secret: str) -> str:
    """SHA-256 of the whole secret, as 64 hexadecimal digits."""
    return hashlib.sha256(secret.encode()).hexdigest()


def same_digest(one: str, other: str) -> bool:
    """Compare in a time that does not depend on where two digests differ."""
    return hmac.compare_digest(one, other)
