"""The real SDK, pointed at a sandbox."""

from typing import Any

import stripe

from billing.sandbox import Sandbox


def client_of(sandbox: Sandbox, *, key: str = "sk_test_sandbox", retries: int = 0) -> Any:
    """The SDK's v1 services, talking to a sandbox; without the SDK's own retries unless asked for."""
    stripe.enable_telemetry = False
    bases: Any = {"api": sandbox.url}
    http = stripe.RequestsClient(timeout=10)
    return stripe.StripeClient(key, base_addresses=bases, max_network_retries=retries, http_client=http).v1
