"""Webhook endpoints made through the API."""

import secrets

from billing.sandbox.account import Account, Call
from billing.sandbox.document import Thing
from billing.sandbox.rules.generic import mark_deleted
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


@on("DELETE /v1/webhook_endpoints/{webhook_endpoint}")
def delete_endpoint(account: Account, call: Call) -> Thing:
    made = account.find(call.arguments["webhook_endpoint"], "webhook_endpoint", "path")
    account.endpoints.remove(account.endpoint_of(made))
    return mark_deleted(made)
