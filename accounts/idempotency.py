"""Doing what a request asks once, however often it is sent.

The caller names its request with a key; what came of it is stored under that key in the same transaction. Sent again,
also at the same moment, the first result is returned; a secret cannot be shown again, since it was never kept.
"""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from django.core.serializers.json import DjangoJSONEncoder
from django.db import transaction

from accounts.errors import DomainError
from accounts.models import IdempotentRequest, Organisation

LONGEST_KEY = 255


class KeyReused(DomainError):
    code = "idempotency_key_reused"
    status = 422
    sentence = "This idempotency key was used for a different request: choose another."


class InvalidIdempotencyKey(DomainError):
    code = "invalid_idempotency_key"
    status = 422
    sentence = "An idempotency key has 1 to 255 characters."


@dataclass(frozen=True, slots=True)
class Performed[T]:
    """What came of a request: the result if it was carried out now, None if it had been before; and its public id."""

    result: T | None
    result_id: str


def perform_once[T](
    organisation: Organisation,
    *,
    operation: str,
    key: str | None,
    asked: Any,
    perform: Callable[[], T],
    identify: Callable[[T], str],
) -> Performed[T]:
    """Carry out `perform` unless `operation` was carried out under `key` before; without a key, always.

    `asked` is what the request says, in JSON's types: the same key with something else raises KeyReused. A second
    request at the same time waits for the first. When `perform` raises, the key stays free.
    """
    if key is None:
        result = perform()
        return Performed(result, identify(result))
    if not 0 < len(key) <= LONGEST_KEY:
        raise InvalidIdempotencyKey
    fingerprint = _fingerprint(asked)
    with transaction.atomic():
        request, created = IdempotentRequest.objects.get_or_create(
            organisation=organisation, operation=operation, key=key, defaults={"fingerprint": fingerprint}
        )
        if not created:
            if request.fingerprint != fingerprint:
                raise KeyReused
            return Performed(None, request.result_id)
        result = perform()
        request.result_id = identify(result)
        request.save(update_fields=["result_id"])
    return Performed(result, request.result_id)


def _fingerprint(asked: Any) -> str:
    text = json.dumps(asked, cls=DjangoJSONEncoder, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()
