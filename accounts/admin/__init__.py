"""The operators' pages for accounts. Every change goes through the verbs, so that it is checked and audited."""

from accounts.admin import audit, keys, organisations, tokens, users

__all__ = ["audit", "keys", "organisations", "tokens", "users"]
