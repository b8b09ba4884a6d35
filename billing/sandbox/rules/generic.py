"""Any endpoint without a rule of its own: create, fetch, change, delete, list and search stored objects."""

import operator
import re
from collections.abc import Callable
from typing import Any

from billing.sandbox.account import Account, Call
from billing.sandbox.document import Schema, Thing
from billing.sandbox.errors import StripeError

LONGEST_PAGE = 100
MOST_TYPES = 20  # of events in one list
SEARCH_TERM = re.compile(r"""(?:metadata\[['"](.+?)['"]\]|(\w+)):\s*['"](.*?)['"]""")
BOUNDS: dict[str, Callable[[Any, Any], bool]] = {
    "gt": operator.gt,
    "gte": operator.ge,
    "lt": operator.lt,
    "lte": operator.le,
}


def answer_generically(account: Account, call: Call) -> Thing:
    """What Stripe's endpoints have in common, by the shape of their answers."""
    schema = account.document.resolve(account.document.answer_schema(call.operation))
    listed = schema.get("properties", {}).get("data", {}).get("items")
    if listed:
        kind = _kind_of(account, listed)
        return _search(account, call, kind) if call.template.endswith("/search") else list_objects(account, call, kind)
    kind = _kind_of(account, schema)
    if call.method != "GET" or kind not in account.document.schemas:
        call.how = "generic"
    if call.method == "DELETE":
        return _delete(account, call)
    if call.arguments and kind in account.document.schemas:
        return _fetch_or_change(account, call, kind)
    if kind not in account.document.schemas:
        return account.document.blank(schema)
    thing = account.make(kind)
    account.update(thing, call.params)
    return thing


def _kind_of(account: Account, schema: Schema) -> str:
    schema = account.document.resolve(schema)
    if "anyOf" in schema:
        schema = account.document.resolve(schema["anyOf"][0])
    return schema.get("properties", {}).get("object", {}).get("enum", [""])[0]


def _delete(account: Account, call: Call) -> Thing:
    id = list(call.arguments.values())[-1]
    if id not in account.objects:
        raise StripeError(404, f"No such object: '{id}'", "resource_missing", "id")
    return mark_deleted(account.get(id))


def mark_deleted(thing: Thing) -> Thing:
    """Deleted objects stay known by id; the answer is what Stripe shows of them."""
    thing["deleted"] = True
    return {"id": thing["id"], "object": thing["object"], "deleted": True}


def _fetch_or_change(account: Account, call: Call, kind: str) -> Thing:
    thing = account.find(list(call.arguments.values())[-1], kind, "path")
    if thing.get("deleted"):
        return _show_deleted(account, call, thing)
    if call.method == "POST" and call.template.endswith("}"):
        account.update(thing, call.params)
    return thing


def _show_deleted(account: Account, call: Call, thing: Thing) -> Thing:
    """Some endpoints still tell of a deleted object, by the document: customers do, invoices do not."""
    if "anyOf" not in account.document.resolve(account.document.answer_schema(call.operation)):
        raise StripeError(404, f"No such {thing['object']}: '{thing['id']}'", "resource_missing", "id")
    return mark_deleted(thing)


def list_objects(account: Account, call: Call, kind: str) -> Thing:
    """A list: newest first, filtered by properties and ranges, with cursors."""
    params = {name: value for name, value in call.params.items() if name not in ("expand", "limit")}
    after, before = params.pop("starting_after", None), params.pop("ending_before", None)
    params |= {name: value for name, value in call.arguments.items() if name in ("customer", "invoice")}
    if len(params.get("types", ())) > MOST_TYPES:
        message = f"You may filter by at most {MOST_TYPES} types."
        raise StripeError(400, message, "parameter_invalid_array", "types")
    properties = account.document.schemas[kind]["properties"]
    tests = [_test(name, value) for name, value in params.items() if name in properties or name == "types"]
    items = [thing for thing in account.all(kind) if all(test(thing) for test in tests)]
    return cut_page(account, items[::-1], call, after, before)


def cut_page(account: Account, items: list[Thing], call: Call, after: str | None, before: str | None) -> Thing:
    """The page of a list that the cursors and the limit of a call ask for."""
    limit = call.params.get("limit", 10)
    if not 1 <= limit <= LONGEST_PAGE:
        message = f"This value must be between 1 and {LONGEST_PAGE}."
        raise StripeError(400, message, "parameter_invalid_integer", "limit")
    places = {thing["id"]: place for place, thing in enumerate(items)}
    for cursor, name in ((after, "starting_after"), (before, "ending_before")):
        if cursor and cursor not in places:
            raise StripeError(400, f"No such object: '{cursor}'", "resource_missing", name)
    if after:
        items = items[places[after] + 1 :]
    if before:
        items = items[max(0, places[before] - limit) : places[before]]
    return account.page(items, call.path, limit)


def _test(name: str, value: Any) -> Callable[[Thing], bool]:
    """The filter that a parameter of a list stands for."""
    if name == "types":
        return lambda thing: any(_is_type(thing, wanted) for wanted in value)
    if name == "type":
        return lambda thing: _is_type(thing, value)
    if isinstance(value, dict) and set(value) <= set(BOUNDS):
        return lambda thing: all(
            thing[name] is not None and BOUNDS[bound](thing[name], int(at)) for bound, at in value.items()
        )
    if isinstance(value, dict):  # as in invoice_payments?payment[payment_intent]=pi_1
        return lambda thing: value.items() <= thing[name].items()
    return lambda thing: thing.get(name) == value


def _is_type(thing: Thing, wanted: str) -> bool:
    if wanted.endswith(".*"):
        return thing["type"].startswith(wanted[:-1])
    return thing["type"] == wanted


def _search(account: Account, call: Call, kind: str) -> Thing:
    """Search sees only what is older than the index lag, as Stripe warns."""
    terms = SEARCH_TERM.findall(call.params["query"])
    if not terms:
        raise StripeError(400, "We were unable to parse your search query.", param="query")
    found = [
        thing
        for thing in account.all(kind)
        if account.now() - account.private_of(thing)["made_at"] >= account.options.search_lag
        and all(
            (thing.get("metadata") or {}).get(key) == value if key else str(thing.get(name)) == value
            for key, name, value in terms
        )
    ]
    return {"object": "search_result", "data": found[::-1], "has_more": False, "url": call.path, "next_page": None}
