"""Webhook endpoints made through the API."""

import secrets

from billing.sandbox.account import Account, Call
from billing.sandbox.document import Thing
from billing.sandbox.rules.registry import on


@on("POST /v1/webhook_endpoints")
def create_endpoint(account: Account, call: Call) -> Thing:
    params = call.params
    secret = f"whsec_{secrets.token_hex(16)}"
    made = account.make(
        "webhook_endpoint",
        url=params["url"],
        enabled_events=params["enabled_events"],
        status="enabled",
        api_version=params.get("api_version"),
    )
    account.private_of(made)["secret"] = secret
    account.listen(account.endpoint_of(made))
    return {**made, "secret": secret}
