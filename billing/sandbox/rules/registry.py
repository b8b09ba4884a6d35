"""Which function stands behind an endpoint."""

from collections.abc import Callable

from billing.sandbox.account import Account, Call
from billing.sandbox.document import Thing
from billing.sandbox.rules.generic import answer_generically

type Behaviour = Callable[[Account, Call], Thing]

_BEHAVIOURS: dict[str, Behaviour] = {}


def on(*endpoints: str) -> Callable[[Behaviour], Behaviour]:
    """Register a function for endpoints such as "POST /v1/invoices"."""

    def register(behaviour: Behaviour) -> Behaviour:
        _BEHAVIOURS.update(dict.fromkeys(endpoints, behaviour))
        return behaviour

    return register


def behaviour_of(call: Call) -> Behaviour:
    """The rule for a call, or the general one."""
    return _BEHAVIOURS.get(f"{call.method} {call.template}", answer_generically)
