"""The sandbox: a strict, stateful stand-in for Stripe's API, on loopback only, for the demo and the tests.

* Every request is checked against Stripe's own OpenAPI document: path, query, form body, types, enums, lengths, decimal
  places, required and unknown parameters, at any depth. Every answer is checked against it too.
* Customers, payment methods, invoices and their items, payments, refunds, credit notes, Checkout, the customer portal,
  events and signed webhooks keep state and follow Stripe's documented rules. Any other endpoint stores and
  returns a valid object of the right type, and the journal calls that answer "generic".
* Idempotency keys work as documented: replay, other parameters, concurrent use, expiry after 24 hours.
* Faults can be injected, time can be moved, webhooks can be held back, repeated and reordered.

What no stand-in can show: Stripe's tax engine, fraud rules, card networks, e-mail, PDF, exact error texts, undocumented
limits. A pass here means that the calls are well formed and survive faults.

In a test: `with Sandbox(webhook=(url, secret)) as sandbox:`, then point a client at `sandbox.url` by
`stripe.StripeClient("sk_test_anything", base_addresses={"api": sandbox.url})`. As a process:
`manage.py stripe_sandbox --port 0 --port-file FILE --state FILE`.

Control, JSON, under /_control/ and without a key (`Sandbox.get_control` and `Sandbox.post_control` do the same):

    GET  journal | objects[?type=invoice] | summary
    POST faults   {"match": "POST /v1/invoices$", "kind": KIND, "skip": 0, "times": 1, "seconds": 5}
                  KIND: lose-request, lose-answer, slow-request, slow-answer, or a status such as "500"
    POST clock    {"advance": seconds}      moves time, then does what Stripe would do by itself
    POST webhooks {"url": ..., "secret": ..., "events": ["*"], "hold": false, "api_version": null}
    POST deliver  {"order": ["evt_..."], "repeat": 1, "together": false}
                  sends held events (default: all, in order), or others once more to every endpoint
    POST pay      {"invoice": ID, "payment_method": "pm_card_visa"}    the customer pays by hand
    POST bank-debit {"session": "cs_..."}   the customer pays at Checkout in a way that takes days;
                  then {"session": "cs_...", "succeeds": true}, or false
    POST reset    {}

Webhook endpoints given by control or command line are not part of the state file; those made through the API are.
"""

from billing.sandbox.account import Options
from billing.sandbox.document import Document, DocumentMissing, load_document
from billing.sandbox.server import Sandbox

__all__ = ["Document", "DocumentMissing", "Options", "Sandbox", "load_document"]
